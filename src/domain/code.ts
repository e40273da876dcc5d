import type { Coupon, Discount } from "./coupon.js";

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
  /** Whether as many users hold it as may. */
  readonly isTaken: boolean;
}

/** A code that is to be added to a code book. */
export interface NewCode {
  readonly code: string;
  readonly key: string;
  readonly pickKey: number;
  readonly terms: CodeTerms;
}

/** A code as it is listed. */
export interface Code extends CodeTerms {
  readonly id: number;
  readonly couponId: string;
  readonly code: string;
  readonly holderCount: number;
  readonly createdAt: Date;
  /** Whether all who hold it have used it as often as they may, where all its seats are taken. */
  readonly usedUp: boolean;
}

export type CodeStatus = "USED" | "EXPIRED" | "FREE" | "ISSUED";

/** The first that applies in the order of CodeStatus. */
export function codeStatus(code: Code, coupon: Pick<Coupon, "expiresAt">, now: Date): CodeStatus {
  const isFree = code.holderCount < code.maxHolders;
  if (!isFree && code.usedUp) return "USED";
  if (coupon.expiresAt <= now || (code.expiresAt && code.expiresAt <= now)) return "EXPIRED";
  return isFree ? "FREE" : "ISSUED";
}

/** One call of GenerateCodes. */
export interface CodeJob {
  readonly id: string;
  readonly couponId: string;
  readonly pattern: string;
  readonly terms: CodeTerms;
  /** How many are wanted, 1 to 1,000,000. */
  readonly count: number;
  readonly madeCount: number;
  readonly createdAt: Date;
  /** null: it is running. */
  readonly endedAt: Date | null;
  /** Why it ended before all were generated. */
  readonly failure: string | null;
}

export type CodeJobState = "RUNNING" | "DONE" | "FAILED" | "CANCELLED";

/** The `failure` of a cancelled job: releases that cannot cancel show it so. */
export const cancelledFailure = "it was cancelled";

export function codeJobState({ endedAt, failure }: Pick<CodeJob, "endedAt" | "failure">): CodeJobState {
  if (endedAt === null) return "RUNNING";
  if (failure === null) return "DONE";
  return failure === cancelledFailure ? "CANCELLED" : "FAILED";
}

/** What became of a code that was to be deleted. */
export type DeleteOutcome = "DELETED" | "NOT_FOUND" | "TAKEN";

export const maxCodeLength = 64;

/**
 * What a code is found by, unique over all coupons. Letters are compared without case and separators are ignored, unless
 * the coupon tells such codes apart. What begins an exact key is a separator, so that no other key can be the same.
 */
export function codeKey(code: string, exactMatch: boolean): string {
  return exactMatch ? `-${code}` : code.replace(separators, "").toUpperCase();
}

export const separators = /[ ._-]/g;

/** The keys under which what a caller wrote may be found: the exact one comes first. */
export function codeKeys(written: string): readonly [string, string] {
  const trimmed = written.trim();
  return [codeKey(trimmed, true), codeKey(trimmed, false)];
}

const typePoolRandomBits = 2 ** 14;
/** Whole numbers up to here, less one, are exact. */
const randomRange = 2 ** 52;

/**
 * Where a code stands in the order in which free codes are issued, from `random` in [0, 1): at random, or in a type pool
 * first by expiry.
 */
export function pickKey(random: number, typePoolExpiry: Date | null): number {
  if (!typePoolExpiry) return Math.floor(random * randomRange);
  return Math.floor(typePoolExpiry.getTime() / 1000) * typePoolRandomBits + Math.floor(random * typePoolRandomBits);
}
