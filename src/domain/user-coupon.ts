import type { Coupon, Discount } from "./coupon.js";
import type { Labels } from "./labels.js";

export interface UserCoupon {
  readonly id: string;
  readonly couponId: string;
  readonly userId: string;
  readonly issuedAt: Date;
  /** `issuedAt` plus the validity that the coupon had then; null when it had none. */
  readonly validUntil: Date | null;
  readonly maxUses: number;
  /** Uses that stand, at most `maxUses`. */
  readonly useCount: number;
  /** Places that it has taken under its coupon's usage cap: at least `useCount`. 0: it was never used. */
  readonly placeCount: number;
  readonly lockedUntil: Date | null;
  /** Set while it must be used before that time or go back into stock. */
  readonly claimUntil: Date | null;
  /** When it went back into stock. */
  readonly releasedAt: Date | null;
  /** The code that it carries; null: its coupon is not a code book. */
  readonly code: string | null;
  /** The code's own discount; null: the coupon's holds. */
  readonly discount: Discount | null;
  /** null: none. */
  readonly labels: Labels | null;
}

export type UserCouponStatus = "READY" | "LOCKED" | "USED" | "REVOKED" | "EXPIRED" | "RELEASED";

/** Of what a user has, and not of what has gone by. */
export const presentStatuses: readonly UserCouponStatus[] = ["READY", "LOCKED", "USED", "REVOKED"];

/** What a status is derived from. */
export type StatusFacts = Pick<
  UserCoupon,
  "validUntil" | "maxUses" | "useCount" | "placeCount" | "lockedUntil" | "claimUntil" | "releasedAt"
>;

/** The earlier of its own validity and the coupon's present expire time. */
export function expiryOf(userCoupon: Pick<UserCoupon, "validUntil">, coupon: Pick<Coupon, "expiresAt">): Date {
  const { validUntil } = userCoupon;
  return validUntil && validUntil.getTime() < coupon.expiresAt.getTime() ? validUntil : coupon.expiresAt;
}

/** The same rule stands in SQL as `user_coupon_status`; a test holds the two against each other. */
export function userCouponStatus(
  userCoupon: StatusFacts,
  coupon: Pick<Coupon, "expiresAt" | "revokedAt" | "exhaustedAt">,
  now: Date,
): UserCouponStatus {
  const { claimUntil, lockedUntil, useCount, placeCount } = userCoupon;
  const expiry = expiryOf(userCoupon, coupon);
  if (userCoupon.releasedAt || (claimUntil && hasCome(claimUntil, now) && claimUntil < expiry)) return "RELEASED";
  if (useCount >= userCoupon.maxUses) return "USED";
  // The usage cap has no place for another use of it.
  if (coupon.exhaustedAt && useCount > 0 && useCount >= placeCount) return "USED";
  if (coupon.revokedAt && hasCome(coupon.revokedAt, now)) return "REVOKED";
  if (coupon.exhaustedAt && placeCount === 0) return "REVOKED";
  if (hasCome(expiry, now)) return "EXPIRED";
  if (lockedUntil && !hasCome(lockedUntil, now)) return "LOCKED";
  return "READY";
}

/** To compare two dates themselves takes ten times as long, and a list asks for each of its rows. */
function hasCome(at: Date, now: Date): boolean {
  return at.getTime() <= now.getTime();
}
