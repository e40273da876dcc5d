import { decideIssue } from "../../domain/issue.js";
import type { GateFacts, Holding } from "../port.js";

/** A user coupon that a user holds, or will hold when its reservation is confirmed. */
export interface Entry extends Holding {
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
  readonly staged: Holding[];
  readonly late: Holding[];
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
