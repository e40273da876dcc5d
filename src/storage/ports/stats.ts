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
  /** null: there is no such coupon. */
  read(scope: StatsScope, deadlineMs: DeadlineMs): Promise<Dated<Stats> | null>;
}
