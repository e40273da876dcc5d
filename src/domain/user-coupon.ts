import type { Coupon } from "./coupon.js";

export interface UserCoupon {
  readonly id: string;
  readonly couponId: string;
  readonly userId: string;
  readonly issuedAt: Date;
  /** `issuedAt` plus the validity that the coupon had then; null when it had none. */
  readonly validUntil: Date | null;
}

export type UserCouponStatus = "READY" | "REVOKED" | "EXPIRED";

/** The earlier of its own validity and the coupon's present expire time. */
export function expiryOf(userCoupon: Pick<UserCoupon, "validUntil">, coupon: Pick<Coupon, "expiresAt">): Date {
  const { validUntil } = userCoupon;
  return validUntil && validUntil < coupon.expiresAt ? validUntil : coupon.expiresAt;
}

/** The same rule stands in SQL as `user_coupon_status`; a test holds the two against each other. */
export function userCouponStatus(
  userCoupon: Pick<UserCoupon, "validUntil">,
  coupon: Pick<Coupon, "expiresAt" | "revokedAt">,
  now: Date,
): UserCouponStatus {
  if (coupon.revokedAt && coupon.revokedAt <= now) return "REVOKED";
  if (expiryOf(userCoupon, coupon) <= now) return "EXPIRED";
  return "READY";
}
