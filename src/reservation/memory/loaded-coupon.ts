import { decideIssue } from "../../domain/issue.js";
import { type PackedHolding, requestHash } from "../packed-holdings.js";
import type { GateFacts, GateRequest, Holding } from "../port.js";

/** A user coupon that a user holds, or will hold when its reservation is confirmed. */
export interface Entry extends PackedHolding {
  readonly pending: boolean;
}

/** A coupon that is loaded. */
export interface LoadedCoupon {
  readonly facts: GateFacts;
  /** null: unlimited. May fall below 0 while confirmations of rows that came past the gate are adopted. */
  stock: number | null;
  readonly holdings: Map<string, Entry[]>;
}

/** A load under way. */
export interface Load {
  deadlineMs: number;
  readonly staged: PackedHolding[];
  readonly late: PackedHolding[];
}

export function isLive(entry: Entry, nowMs: number): boolean {
  return entry.pending || entry.validUntil === null || entry.validUntil.getTime() > nowMs;
}

export function decisionOf({ facts, stock }: LoadedCoupon, liveHeldCount: number, issuedToday: number, nowMs: number) {
  return decideIssue({
    coupon: {
      startsAt: facts.startsAt,
      expiresAt: facts.expiresAt,
      pausedAt: facts.paused ? facts.startsAt : null,
      deletedAt: facts.deleted ? facts.startsAt : null,
      exhaustedAt: facts.exhausted ? facts.startsAt : null,
      maxPerUser: facts.maxPerUser,
      quantity: stock,
      quota: facts.quota,
      issuedCount: 0,
    },
    liveHeldCount,
    issuedToday,
    now: new Date(nowMs),
  });
}

export function hashedOf({ userId, userCouponId, requestId, validUntil }: Holding): PackedHolding {
  return { userId, userCouponId, requestHash: requestHash(requestId), validUntil };
}

export function pendingOf(request: GateRequest): Entry {
  return { ...hashedOf({ ...request, validUntil: null }), pending: true };
}
