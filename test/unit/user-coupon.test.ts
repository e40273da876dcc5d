import { describe, expect, test } from "vitest";
import type { Coupon } from "../../src/domain/coupon.js";
import { expiryOf, type StatusFacts, type UserCouponStatus, userCouponStatus } from "../../src/domain/user-coupon.js";

const now = new Date("2030-06-01T12:00:00.000Z");
const at = (offsetMs: number | null) => (offsetMs === null ? null : new Date(now.getTime() + offsetMs));

type Facts = StatusFacts & Pick<Coupon, "expiresAt" | "revokedAt" | "exhaustedAt">;

const untouched: Facts = {
  validUntil: null,
  maxUses: 1,
  useCount: 0,
  placeCount: 0,
  lockedUntil: null,
  claimUntil: null,
  releasedAt: null,
  expiresAt: at(1_000) as Date,
  revokedAt: null,
  exhaustedAt: null,
};
const statusOf = (change: Partial<Facts>) => {
  const facts = { ...untouched, ...change };
  return userCouponStatus(facts, facts, now);
};

/** Offsets from now in ms; null: not set. */
const ends: [validUntil: number | null, couponExpiresAt: number, revokedAt: number | null, UserCouponStatus][] = [
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

/** Every way into a status but READY, in the order in which they win, with the least that brings it about. */
const ways: [name: string, Partial<Facts>, UserCouponStatus][] = [
  ["released", { releasedAt: at(-1) }, "RELEASED"],
  ["used as often as it may be", { maxUses: 2, useCount: 2, placeCount: 2 }, "USED"],
  ["revoked with its coupon", { revokedAt: now }, "REVOKED"],
  ["expired", { validUntil: now }, "EXPIRED"],
  ["locked", { lockedUntil: at(1) }, "LOCKED"],
];

describe("userCouponStatus", () => {
  test.for(ends)("valid until %s, coupon until %s, revoked at %s: %s", ([validUntil, expiresAt, revokedAt, status]) => {
    expect(statusOf({ validUntil: at(validUntil), expiresAt: at(expiresAt) as Date, revokedAt: at(revokedAt) })).toBe(
      status,
    );
  });

  test.for(ways)("%s", ([, change, status]) => {
    expect(statusOf(change)).toBe(status);
  });

  const pairs = ways.flatMap(([first, one, status], index) =>
    ways.slice(index + 1).map(([second, other]) => [first, second, { ...other, ...one }, status] as const),
  );
  test.for(pairs)("%s and %s: the first counts", ([, , change, status]) => {
    expect(statusOf(change)).toBe(status);
  });

  test.for([
    ["a lock to this very millisecond", { lockedUntil: now }, "READY"],
    ["a lock that ran out", { lockedUntil: at(-1) }, "READY"],
    ["a claim window that ends now", { claimUntil: now }, "RELEASED"],
    ["a claim window that ends in a millisecond", { claimUntil: at(1) }, "READY"],
    ["a claim window that ends with the validity", { claimUntil: at(-5), validUntil: at(-5) }, "EXPIRED"],
    ["a claim window that ends after the coupon", { claimUntil: at(-4), expiresAt: at(-5) as Date }, "EXPIRED"],
    ["a claim window that ends before both", { claimUntil: at(-6), validUntil: at(-5) }, "RELEASED"],
    ["a claim window past, but revoked", { claimUntil: at(-1), revokedAt: at(-9) }, "RELEASED"],
    ["used once of several times", { maxUses: 3, useCount: 1, placeCount: 1 }, "READY"],
    ["used more often than it may be now", { maxUses: 1, useCount: 2, placeCount: 2 }, "USED"],
    ["cancelled, so it can be used again", { useCount: 0, placeCount: 1 }, "READY"],
  ] as [string, Partial<Facts>, UserCouponStatus][])("%s", ([, change, status]) => {
    expect(statusOf(change)).toBe(status);
  });

  describe("when the usage cap of its coupon is reached", () => {
    test.for([
      ["never used", { useCount: 0, placeCount: 0 }, "REVOKED"],
      ["never used and expired", { useCount: 0, placeCount: 0, validUntil: at(-1) }, "REVOKED"],
      ["never used and locked", { useCount: 0, placeCount: 0, lockedUntil: at(1) }, "REVOKED"],
      ["used, with uses left but no place", { maxUses: 3, useCount: 1, placeCount: 1 }, "USED"],
      ["the same, and expired", { maxUses: 3, useCount: 1, placeCount: 1, validUntil: at(-1) }, "USED"],
      ["the same, and revoked with its coupon", { maxUses: 3, useCount: 1, placeCount: 1, revokedAt: at(-1) }, "USED"],
      ["used, with a place that a cancelled use has kept", { maxUses: 3, useCount: 1, placeCount: 2 }, "READY"],
      ["its one use cancelled", { useCount: 0, placeCount: 1 }, "READY"],
      ["its one use cancelled, and locked", { useCount: 0, placeCount: 1, lockedUntil: at(1) }, "LOCKED"],
      ["its one use cancelled, and expired", { useCount: 0, placeCount: 1, validUntil: at(-1) }, "EXPIRED"],
    ] as [string, Partial<Facts>, UserCouponStatus][])("%s", ([, change, status]) => {
      expect(statusOf({ ...change, exhaustedAt: at(-1) })).toBe(status);
    });
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
