import { decideIssue } from "../../domain/issue.js";
import { type PackedHolding, requestHash } from "../packed-holdings.js";
import type { GateFacts, GateRequest, Holding, LoadedSurvey, Settlement } from "../port.js";
import { Given } from "./given.js";
import { Heard } from "./heard.js";

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
  readonly given: Given;
  readonly heard: Heard;
}

/** A load under way. */
export interface Load {
  deadlineMs: number;
  readonly staged: (PackedHolding & { bucket: number })[];
  /** What was issued and given back meanwhile, in its order. */
  readonly late: Settlement[];
}

/**
 * What a load has read, and what it may not have read: what was settled during it, and what is pending. `decided`: what is pending no
 * more, for it was read.
 */
export function loadedOf(load: Load, facts: GateFacts, pending: readonly GateRequest[]) {
  const coupon: LoadedCoupon = {
    facts,
    stock: facts.stock,
    holdings: new Map(),
    given: new Given(facts.bucketCount),
    heard: new Heard(facts.givenBackTotal),
  };
  const known = new Set<string>();
  const count = (change: number) => {
    if (coupon.stock !== null) coupon.stock += change;
  };
  const add = (entry: Entry) => {
    known.add(entry.userCouponId);
    coupon.holdings.set(entry.userId, [...(coupon.holdings.get(entry.userId) ?? []), entry]);
  };
  const adopt = (entry: Entry) => {
    add(entry);
    count(-1);
  };
  const forget = ({ userId, userCouponId }: GateRequest) => {
    known.delete(userCouponId);
    const others = (coupon.holdings.get(userId) ?? []).filter((entry) => entry.userCouponId !== userCouponId);
    if (others.length > 0) coupon.holdings.set(userId, others);
    else coupon.holdings.delete(userId);
  };
  for (const { bucket, ...holding } of load.staged) {
    if (holding.userId === "") coupon.given.read(bucket, holding.requestHash);
    else add({ ...holding, pending: false });
  }
  for (const settlement of load.late) {
    const isKnown = known.has(settlement.userCouponId);
    coupon.heard.hear(settlement);
    if (settlement.outcome === "CONFIRM") {
      if (!isKnown && !coupon.given.hasBefore(settlement)) adopt({ ...hashedOf(settlement), pending: false });
      continue;
    }
    if (isKnown) {
      forget(settlement);
      if (settlement.outcome === "RETURN") count(1);
      coupon.given.add(settlement.userId, requestHash(settlement.requestId));
    }
    coupon.given.addBefore(settlement);
  }
  const decided = pending.filter(({ userCouponId }) => known.has(userCouponId));
  for (const request of pending) if (!known.has(request.userCouponId)) adopt(pendingOf(request));
  return { coupon, decided };
}

export function loadedSurveyOf({ facts, stock, heard }: LoadedCoupon): LoadedSurvey {
  return { revision: facts.revision, updatedAt: facts.updatedAt, stock, givenBackTo: heard.to };
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
