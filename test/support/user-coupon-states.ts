import fc from "fast-check";
import type { Coupon } from "../../src/domain/coupon.js";
import type { UserCoupon } from "../../src/domain/user-coupon.js";

/** How a user coupon can stand: what its status, and what speaks against using it, are derived from. */
export interface UserCouponState {
  readonly userCoupon: Pick<
    UserCoupon,
    "validUntil" | "maxUses" | "useCount" | "placeCount" | "lockedUntil" | "claimUntil" | "releasedAt"
  >;
  readonly coupon: Pick<Coupon, "expiresAt" | "revokedAt" | "exhaustedAt">;
  readonly lockVersion: number;
}

/**
 * Moments are within two milliseconds of `now`, so that equal ones are frequent. What usually is not set seldom is, or
 * the first reason would hide the others.
 */
export function userCouponStates(now: Date): fc.Arbitrary<UserCouponState> {
  const at = (ms: number) => new Date(now.getTime() + ms);
  const moment = fc.integer({ min: -2, max: 2 }).map(at);
  const later = fc.oneof({ weight: 2, arbitrary: fc.constant(at(9)) }, { weight: 3, arbitrary: moment });
  const unset = fc.constant(null);
  const seldom = fc.oneof({ weight: 4, arbitrary: unset }, { weight: 1, arbitrary: moment });
  const often = fc.oneof({ weight: 1, arbitrary: unset }, { weight: 2, arbitrary: later });
  const counts = fc
    .tuple(fc.integer({ min: 1, max: 3 }), fc.nat(3), fc.nat(3))
    .map(([maxUses, uses, places]): Pick<UserCoupon, "maxUses" | "useCount" | "placeCount"> => {
      const placeCount = Math.min(places, maxUses);
      return { maxUses, placeCount, useCount: Math.min(uses, placeCount) };
    });
  const state = fc.record({
    userCoupon: fc
      .tuple(
        counts,
        fc.record({
          validUntil: often,
          lockedUntil: often,
          claimUntil: seldom,
          releasedAt: fc.oneof({ weight: 9, arbitrary: unset }, { weight: 1, arbitrary: moment }),
        }),
      )
      .map(([count, moments]) => ({ ...count, ...moments })),
    coupon: fc.record({ expiresAt: later, revokedAt: seldom, exhaustedAt: fc.oneof(unset, moment) }),
    lockVersion: fc.nat(2),
  });
  // Whatever is or was locked has a version.
  return state.map((one) => ({
    ...one,
    lockVersion: Math.max(one.lockVersion, one.userCoupon.lockedUntil ? 1 : 0),
  }));
}
