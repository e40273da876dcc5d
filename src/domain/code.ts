import type { Discount } from "./coupon.js";

/** What a code has of its own; null: the coupon's holds. */
export interface CodeTerms {
  readonly discount: Discount | null;
  readonly expiresAt: Date | null;
  /** 1 to 1,000. */
  readonly maxUses: number | null;
  /** How many users may hold it, 1 to 1,000,000. */
  readonly maxHolders: number;
}

/** A code of a code book, as far as it is needed to issue it. */
export interface FoundCode {
  readonly id: number;
  readonly couponId: string;
}

export const maxCodeLength = 64;

/**
 * What a code is found by, unique over all coupons. Letters are compared without case and separators are ignored, unless
 * the coupon tells such codes apart.
 */
export function codeKey(code: string, exactMatch: boolean): string {
  return exactMatch ? `=${code}` : code.replace(/[ ._-]/g, "").toUpperCase();
}

/** The keys under which what a caller wrote may be found: the exact one comes first. */
export function codeKeys(written: string): readonly [string, string] {
  const trimmed = written.trim();
  return [codeKey(trimmed, true), codeKey(trimmed, false)];
}

const poolRandomBits = 2 ** 14;
/** Whole numbers up to here, less one, are exact. */
const randomRange = 2 ** 52;

/**
 * The place of a code in the order in which free codes are issued, from `random` in [0, 1): at random, or in a type's pool
 * first by expiry.
 */
export function pickKey(random: number, poolExpiry: Date | null): number {
  if (!poolExpiry) return Math.floor(random * randomRange);
  return Math.floor(poolExpiry.getTime() / 1000) * poolRandomBits + Math.floor(random * poolRandomBits);
}
