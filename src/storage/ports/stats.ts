import type { CouponType } from "../../domain/coupon.js";
import type { Dated, DeadlineMs } from "./page.js";

/** What happened so far, and how many user coupons are REVOKED and EXPIRED at the moment of reading. */
export interface Stats {
  readonly couponCount: number;
  readonly codeCount: number;
  readonly issuedCount: number;
  readonly deletedCount: number;
  readonly releasedCount: number;
  /** Cancelled ones included. */
  readonly usedCount: number;
  readonly cancelledCount: number;
  readonly revokedCount: number;
  readonly expiredCount: number;
}

/** Of one coupon, of all of a type, or of all: at most one of both is set. */
export interface StatsScope {
  readonly couponId: string | null;
  readonly type: CouponType | null;
}

export interface StatsStore {
  /** null: there is no such coupon. Of all or of a type it may be of an earlier moment, where there is very much to count. */
  read(scope: StatsScope, deadlineMs: DeadlineMs): Promise<Dated<Stats> | null>;
  /** Counts what is too much to count while somebody waits, if it is time to. */
  keep(): Promise<void>;
}
