import type { Coupon } from "../../domain/coupon.js";
import type { Refusal } from "../../domain/refusal.js";
import type { UserCoupon, UserCouponStatus } from "../../domain/user-coupon.js";
import type { GateRequest } from "../../reservation/port.js";
import type { Dated, DeadlineMs, Listed, Page, RequestKey } from "./page.js";

export interface UserCouponWithCoupon {
  readonly userCoupon: UserCoupon;
  readonly coupon: Coupon;
}

export interface FoundUserCoupon extends UserCouponWithCoupon {
  /** By which it was issued; null: the caller gave none. */
  readonly requestId: string | null;
}

/** A user coupon that was taken from its user: what the gate must be told. */
export interface GivenBack extends GateRequest {
  readonly restocked: boolean;
  /**
   * Whether the gate cannot count what went back, and has to read anew: places under the coupon's usage cap, or
   * the stock of one that had expired, which it does not know any more.
   */
  readonly freed: boolean;
  /** Which of its coupon's it is that were given back, see Settlement; null: it was counted before. */
  readonly givenBackNo: number | null;
}

export interface UserCouponStore {
  /** null when it is unknown, deleted or somebody else's. */
  get(userId: string, userCouponId: string, deadlineMs: DeadlineMs): Promise<Dated<FoundUserCoupon> | null>;
  /** Never deleted ones, and only those that stand as `statuses` say; null: all. */
  list(
    userId: string,
    page: Page,
    statuses: readonly UserCouponStatus[] | null,
    deadlineMs: DeadlineMs,
  ): Promise<Listed<UserCouponWithCoupon>>;

  /**
   * USER_COUPON_NOT_FOUND, ALREADY_USED, LOCKED; requests as in `CouponStore.create`. `beforeCommit` runs while the coupon
   * is locked, unless nothing was deleted, or what had been released before; what it was told may be rolled back: then the answer is a refusal or a replay.
   */
  delete(
    deletion: {
      readonly userId: string;
      readonly userCouponId: string;
      readonly restock: boolean;
      readonly deleteUsed: boolean;
      readonly request: RequestKey | null;
    },
    beforeCommit: (given: GivenBack) => Promise<void>,
    deadlineMs: DeadlineMs,
  ): Promise<{ readonly restocked: boolean /** An earlier call had done it. */; readonly replayed: boolean } | Refusal>;

  /** Takes back what was not used within its claim window, at most `limit` at once, and answers what that was. */
  release(limit: number): Promise<GivenBack[]>;
  /** Counts those whose own validity has run out, at most `limit` at once, and answers how many it has looked at. */
  expire(limit: number): Promise<number>;
}
