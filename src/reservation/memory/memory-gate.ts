import { type Clock, steadyMs } from "../../platform/clock.js";
import { timeOf } from "../../platform/new-id.js";
import { QuotaDays } from "../../platform/quotas/quota-days.js";
import { QuotaGroups, type QuotaOptions } from "../../platform/quotas/quota-groups.js";
import { afterLook, defaultPauses, type LookPauses } from "../looks.js";
import { requestHash, unpackHoldings } from "../packed-holdings.js";
import type {
  Admission,
  AdmissionRequest,
  Gate,
  GateFacts,
  GateRequest,
  Loading,
  Look,
  LookEnd,
  PlaceFacts,
  PlaceOutcome,
  PlaceRequest,
  PlaceSettlement,
  Settlement,
  Survey,
} from "../port.js";
import { defaultReservationMs, keepEndedMs, loadStepTimeoutMs } from "../port.js";
import {
  decisionOf,
  hashedOf,
  isLive,
  type Load,
  type LoadedCoupon,
  loadedOf,
  loadedSurveyOf,
  pendingOf,
} from "./loaded-coupon.js";
import { MemoryLooks } from "./memory-looks.js";
import { MemoryPending } from "./memory-pending.js";
import { MemoryPlaces } from "./memory-places.js";
import { QuotaUse } from "./quota-use.js";
import { ThrottleQueue } from "./throttle-queue.js";

export interface MemoryGateOptions extends QuotaOptions {
  readonly reservationMs?: number;
  /** By which it is judged what Postgres has said until when it holds. Absent: `now`. */
  readonly clock?: Clock;
  /** Milliseconds since 1970, for all else. */
  readonly now?: () => number;
  /** For tests that do not wait as long. */
  readonly pauses?: Partial<LookPauses>;
}

/**
 * The reservation port in the memory of one process: for a single server without Redis, and the reference model that
 * the Redis implementation is tested against.
 */
export class MemoryGate implements Gate {
  private readonly coupons = new Map<string, LoadedCoupon>();
  private readonly pending = new MemoryPending();
  private readonly loads = new Map<string, Load>();
  private readonly places: MemoryPlaces;
  /** Of coupons that were throttled once. */
  private readonly throttleQueues = new Map<string, ThrottleQueue>();
  private readonly quotaUse = new QuotaUse();
  private readonly quotaGroups: QuotaGroups;
  private readonly quotaDays: QuotaDays;
  private readonly reservationMs: number;
  private readonly now: () => number;
  private readonly clock: Clock;
  private readonly looks: MemoryLooks;
  private readonly pauses: LookPauses;
  private surveyOffset = 0;

  constructor(options: MemoryGateOptions = {}) {
    this.reservationMs = options.reservationMs ?? defaultReservationMs;
    this.now = options.now ?? steadyMs;
    this.clock = options.clock ?? { nowMs: this.now };
    this.looks = new MemoryLooks(this.now);
    this.pauses = { ...defaultPauses(this.reservationMs), ...options.pauses };
    this.places = new MemoryPlaces(this.reservationMs, this.now);
    this.quotaGroups = new QuotaGroups(options.quotaGroupOf);
    this.quotaDays = options.quotaDays ?? new QuotaDays();
  }

  async admit(requestWithTicket: AdmissionRequest): Promise<Admission> {
    const { ticket: _, patienceMs: __, ...request } = requestWithTicket;
    const coupon = this.coupons.get(request.couponId);
    if (!coupon) {
      const exists = (await this.quotaGroups.ofAsked(request.couponId)) !== undefined;
      return { outcome: exists ? "NOT_LOADED" : "COUPON_NOT_FOUND" };
    }
    this.looks.announce(request.couponId);
    const [nowMs, databaseMs] = [this.now(), this.clock.nowMs()];
    const entries = coupon.holdings.get(request.userId) ?? [];
    const hashed = requestHash(request.requestId);
    const same = hashed === "" ? undefined : entries.find((entry) => entry.requestHash === hashed);
    if (same) return same.pending ? { outcome: "IN_FLIGHT" } : { outcome: "REPLAY", userCouponId: same.userCouponId };

    const live = entries.filter((entry) => isLive(entry, databaseMs));
    const decided = live.filter((entry) => !entry.pending);
    const { facts } = coupon;
    const { quota, throttle } = facts;
    const day = quota ? this.dayOf(request) : "";
    const ofDay = quota ? this.quotaUse.count(quota.group, day, request.userId) : { all: 0, decided: 0 };
    const decision = decisionOf(coupon, live.length, ofDay.all, databaseMs);
    if (decision !== "ISSUED" && coupon.given.has(request.userId, hashed)) return { outcome: "GIVEN_BACK" };
    if (decision === "ALREADY_ISSUED" && decided.length < facts.maxPerUser) return { outcome: "IN_FLIGHT" };
    if (decision === "QUOTA_REACHED" && quota && ofDay.decided < quota.maxPerDay) return { outcome: "IN_FLIGHT" };
    const pendingCount = this.pending.count(request.couponId);
    if (decision === "SOLD_OUT" && pendingCount > 0) return { outcome: "UNDECIDED" };
    if (decision !== "ISSUED") return { outcome: decision };
    const admission: Admission = throttle
      ? this.queueOf(request.couponId).join(requestWithTicket, throttle, pendingCount, nowMs)
      : { outcome: "RESERVED" };
    if (admission.outcome !== "RESERVED") return admission;

    if (quota) this.quotaUse.set(quota.group, day, request.userId, request.userCouponId, true, nowMs);
    coupon.holdings.set(request.userId, [...live, pendingOf(request)]);
    for (const entry of entries) if (!live.includes(entry)) coupon.given.add(entry.userId, entry.requestHash);
    if (coupon.stock !== null) coupon.stock -= 1;
    this.pending.add(request, nowMs + this.reservationMs);
    return admission;
  }

  async settle(settlements: readonly Settlement[]): Promise<void> {
    for (const settlement of settlements) this.settleOne(settlement, await this.quotaGroups.of(settlement.couponId));
  }

  async beginLoad(couponId: string): Promise<Loading | null> {
    const current = this.loads.get(couponId);
    if (current && current.deadlineMs > this.now()) return null;
    const load: Load = { deadlineMs: this.now() + loadStepTimeoutMs, staged: [], late: [] };
    this.loads.set(couponId, load);
    return {
      addHoldings: async (pages) => {
        if (this.loads.get(couponId) !== load) return false;
        load.deadlineMs = this.now() + loadStepTimeoutMs;
        for (const page of pages) load.staged.push(...unpackHoldings(page));
        return true;
      },
      install: async (facts) => {
        if (this.loads.get(couponId) !== load) return false;
        this.looks.announce(couponId);
        this.install(couponId, load, facts);
        return true;
      },
    };
  }

  async invalidate(couponId: string): Promise<void> {
    this.coupons.delete(couponId);
    this.loads.delete(couponId);
    this.places.drop(couponId);
  }

  async takePlace(request: PlaceRequest): Promise<PlaceOutcome> {
    this.looks.announce(request.couponId);
    return this.places.take(request);
  }

  async settlePlaces(settlements: readonly PlaceSettlement[]): Promise<void> {
    for (const { couponId } of settlements) this.looks.announce(couponId);
    this.places.settle(settlements);
  }

  async loadPlaces(couponId: string, facts: PlaceFacts): Promise<void> {
    this.looks.announce(couponId);
    this.places.load(couponId, facts);
  }

  async survey(couponLimit: number, overdueLimit: number): Promise<Survey[]> {
    this.forgetOld();
    const all = [...new Set([...this.coupons.keys(), ...this.pending.couponIds, ...this.places.couponIds])].sort();
    if (this.surveyOffset >= all.length) this.surveyOffset = 0;
    const ids = all.slice(this.surveyOffset, this.surveyOffset + couponLimit);
    this.surveyOffset += couponLimit;
    return ids.map((couponId) => this.surveyOf(couponId, overdueLimit));
  }

  async lookAtDue(couponLimit: number, overdueLimit: number): Promise<Look[]> {
    this.forgetOld();
    const nowMs = this.now();
    return this.looks.claim(couponLimit).map(({ couponId, claim, calmLooks }) => {
      const deadlines = this.pending.of(couponId).map(({ deadlineMs }) => deadlineMs);
      const earliestMs = Math.min(...deadlines, this.places.earliestDeadlineMs(couponId) ?? Number.POSITIVE_INFINITY);
      const deadlineInMs = Number.isFinite(earliestMs) ? earliestMs - nowMs : null;
      return { survey: this.surveyOf(couponId, overdueLimit), claim, calmLooks, deadlineInMs };
    });
  }

  async endLooks(ends: readonly LookEnd[]): Promise<void> {
    for (const { look, again } of ends) {
      const { claim, survey } = look;
      const after = afterLook(look, again, this.pauses);
      const isGone = after.what === "FORGET" || (after.what === "LEAVE" && this.leave(survey.couponId));
      const next = after.what === "PAUSE" ? after : { pauseMs: isGone ? null : 0, calmLooks: 0 };
      this.looks.end(survey.couponId, claim, next.pauseMs, next.calmLooks);
    }
  }

  async close(): Promise<void> {}

  private surveyOf(couponId: string, overdueLimit: number): Survey {
    const nowMs = this.now();
    const coupon = this.coupons.get(couponId);
    const pending = this.pending.of(couponId);
    const overdue = pending.filter(({ deadlineMs }) => deadlineMs <= nowMs).map(({ request }) => request);
    return {
      couponId,
      loaded: coupon ? loadedSurveyOf(coupon) : null,
      pendingCount: pending.length,
      overdue: overdue.slice(0, overdueLimit),
      ...this.places.survey(couponId, overdueLimit),
    };
  }

  private leave(couponId: string): boolean {
    const { takenCount } = this.places.survey(couponId, 0);
    const isLoading = (this.loads.get(couponId)?.deadlineMs ?? 0) > this.now();
    if (isLoading || takenCount + this.pending.count(couponId) > 0) return false;
    this.coupons.delete(couponId);
    this.places.drop(couponId);
    return true;
  }

  private forgetOld(): void {
    const nowMs = this.now();
    for (const [id, { facts }] of this.coupons) {
      if (facts.expiresAt.getTime() + keepEndedMs > this.clock.nowMs()) continue;
      this.coupons.delete(id);
      this.throttleQueues.delete(id);
    }
    for (const [id, queue] of this.throttleQueues) {
      if (!this.coupons.has(id) && queue.isOver(nowMs)) this.throttleQueues.delete(id);
    }
    this.quotaUse.forgetOld(nowMs);
    this.places.forgetOld();
  }

  private queueOf(couponId: string): ThrottleQueue {
    const queue = this.throttleQueues.get(couponId) ?? new ThrottleQueue();
    this.throttleQueues.set(couponId, queue);
    return queue;
  }

  /** See RedisGate. */
  private dayOf({ userCouponId }: GateRequest): string {
    return this.quotaDays.nameOf(timeOf(userCouponId) + Math.round(this.now() - steadyMs()));
  }

  private settleDay(settlement: Settlement, group: string): void {
    const { userId, userCouponId, outcome } = settlement;
    const day = this.dayOf(settlement);
    if (outcome === "RELEASE") this.quotaUse.release(group, day, userId, userCouponId);
    else if (outcome === "CONFIRM" || this.quotaUse.has(group, day, userId, userCouponId)) {
      this.quotaUse.set(group, day, userId, userCouponId, false, this.now());
    }
  }

  private settleOne(settlement: Settlement, quotaGroup: string | null): void {
    const { couponId, userId, userCouponId } = settlement;
    this.looks.announce(couponId);
    const wasPending = this.forgetPending(couponId, userCouponId);
    if (quotaGroup !== null) this.settleDay(settlement, quotaGroup);
    const coupon = this.coupons.get(couponId);
    if (coupon) {
      coupon.heard.hear(settlement);
      const entries = coupon.holdings.get(userId) ?? [];
      const others = entries.filter((entry) => entry.userCouponId !== userCouponId);
      const known = others.length < entries.length;
      if (settlement.outcome === "CONFIRM" && !known && coupon.given.hasBefore(settlement)) return;
      if (settlement.outcome === "CONFIRM") {
        coupon.holdings.set(userId, [...others, { ...hashedOf(settlement), pending: false }]);
        if (!known && coupon.stock !== null) coupon.stock -= 1;
      } else if (known && (settlement.outcome !== "RELEASE" || wasPending)) {
        if (others.length > 0) coupon.holdings.set(userId, others);
        else coupon.holdings.delete(userId);
        if (coupon.stock !== null && settlement.outcome !== "FREE") coupon.stock += 1;
      }
      if (settlement.outcome === "FREE" || settlement.outcome === "RETURN")
        coupon.given.giveBack(settlement, known && !wasPending);
    }
    // A load under way has read Postgres before or after this was committed; loadedOf() finds out which.
    if (settlement.outcome !== "RELEASE") this.loads.get(couponId)?.late.push(settlement);
  }

  private install(couponId: string, load: Load, facts: GateFacts): void {
    const pending = this.pending.of(couponId).map(({ request }) => request);
    const { coupon, decided } = loadedOf(load, facts, pending);
    this.coupons.set(couponId, coupon);
    for (const { userCouponId } of decided) this.forgetPending(couponId, userCouponId);
    this.loads.delete(couponId);
  }

  private forgetPending(couponId: string, userCouponId: string): boolean {
    const was = this.pending.delete(couponId, userCouponId);
    const coupon = this.coupons.get(couponId);
    const isThrottled = coupon ? coupon.facts.throttle !== null : this.throttleQueues.has(couponId);
    if (was && isThrottled) this.queueOf(couponId).end(this.now());
    return was;
  }
}
