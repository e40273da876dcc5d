import type { Coupon } from "./coupon.js";
import type { Reason } from "./refusal.js";

/** Refusals of issuing, in the order in which they are checked. */
export type IssueRefusal = Extract<
  Reason,
  | "COUPON_NOT_FOUND"
  | "COUPON_PAUSED"
  | "COUPON_NOT_STARTED"
  | "COUPON_ENDED"
  | "USAGE_CAP_REACHED"
  | "ALREADY_ISSUED"
  | "QUOTA_REACHED"
  | "SOLD_OUT"
>;

/** Refusals of issuing one code. */
export type CodeRefusal = Extract<Reason, "CODE_NOT_FOUND" | "CODE_EXPIRED" | "CODE_TAKEN">;

export interface IssueFacts {
  readonly coupon: Pick<
    Coupon,
    | "startsAt"
    | "expiresAt"
    | "pausedAt"
    | "deletedAt"
    | "exhaustedAt"
    | "quantity"
    | "issuedCount"
    | "maxPerUser"
    | "quota"
  > | null;
  /** How many live user coupons of this coupon the user holds. */
  readonly liveHeldCount: number;
  /** How many of the coupon's quota group the user was issued today; absent: none. */
  readonly issuedToday?: number;
  readonly now: Date;
}

/**
 * The rule of issuing, as one pure function. The Lua script `admit.lua` and the SQL function `issue_user_coupons` apply
 * the same rule where the facts are; tests hold both against this.
 */
export function decideIssue({ coupon, liveHeldCount, issuedToday = 0, now }: IssueFacts): "ISSUED" | IssueRefusal {
  if (!coupon || coupon.deletedAt) return "COUPON_NOT_FOUND";
  if (coupon.pausedAt) return "COUPON_PAUSED";
  if (now < coupon.startsAt) return "COUPON_NOT_STARTED";
  if (now >= coupon.expiresAt) return "COUPON_ENDED";
  if (coupon.exhaustedAt) return "USAGE_CAP_REACHED";
  if (liveHeldCount >= coupon.maxPerUser) return "ALREADY_ISSUED";
  if (coupon.quota && issuedToday >= coupon.quota.maxPerDay) return "QUOTA_REACHED";
  if (coupon.quantity !== null && coupon.issuedCount >= coupon.quantity) return "SOLD_OUT";
  return "ISSUED";
}
