import { describe, expect, test } from "vitest";
import { expiryOf, type UserCouponStatus, userCouponStatus } from "../../src/domain/user-coupon.js";

const now = new Date("2030-06-01T12:00:00.000Z");
const at = (offsetMs: number | null) => (offsetMs === null ? null : new Date(now.getTime() + offsetMs));

/** Offsets from now in ms; null: not set. */
const rows: [validUntil: number | null, couponExpiresAt: number, revokedAt: number | null, UserCouponStatus][] = [
  [null, 10, null, "READY"],
  [10, 20, null, "READY"],
  [20, 10, null, "READY"],
  [1, 1, null, "READY"],
  [0, 10, null, "EXPIRED"],
  [10, 0, null, "EXPIRED"],
  [0, 0, null, "EXPIRED"],
  [null, 0, null, "EXPIRED"],
  [-1, 10, null, "EXPIRED"],
  [10, -1, null, "EXPIRED"],
  [10, 10, 0, "REVOKED"],
  [10, 10, -1, "REVOKED"],
  [10, 10, 1, "READY"],
  [null, 10, 0, "REVOKED"],
  [-1, 10, -1, "REVOKED"],
  [10, -1, -1, "REVOKED"],
  [-1, -1, 1, "EXPIRED"],
];

describe("userCouponStatus", () => {
  test.for(rows)("valid until %s, coupon until %s, revoked at %s: %s", ([validUntil, expiresAt, revokedAt, status]) => {
    const coupon = { expiresAt: at(expiresAt) as Date, revokedAt: at(revokedAt) };
    expect(userCouponStatus({ validUntil: at(validUntil) }, coupon, now)).toBe(status);
  });
});

describe("expiryOf is the earlier one", () => {
  test.for([
    [null, 5, 5],
    [4, 5, 4],
    [5, 5, 5],
    [6, 5, 5],
  ] as const)("of %s and %s: %s", ([validUntil, expiresAt, expected]) => {
    expect(expiryOf({ validUntil: at(validUntil) }, { expiresAt: at(expiresAt) as Date })).toEqual(at(expected));
  });
});
