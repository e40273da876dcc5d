import { setTimeout as sleep } from "node:timers/promises";
import type { OpenQueue, Queue } from "../batching/queues.js";
import type { CallTrace } from "../domain/call-context.js";
import type { CodeRefusal, IssueRefusal } from "../domain/issue.js";
import { DeadlinePassed, Overloaded, Refusal, requestIdReused, StoreUnavailable } from "../domain/refusal.js";
import type { UserCoupon, UserCouponStatus } from "../domain/user-coupon.js";
import { type Clock, steadyMs } from "../platform/clock.js";
import { newId } from "../platform/new-id.js";
import type { QuotaDays } from "../platform/quotas/quota-days.js";
import type { Admission, AdmissionOutcome, AdmissionRequest, Gate } from "../reservation/port.js";
import type { IssueRequest, IssueResult, IssueStore } from "../storage/ports/issues.js";
import type { DeadlineMs } from "../storage/ports/page.js";
import type { UserCouponStore } from "../storage/ports/user-coupons.js";
import type { GateKeeper } from "./gate-keeper.js";
import { IssueActivity } from "./issue-activity.js";
import { type LastUnits, outOfStock, type YieldPermit } from "./last-units.js";
import { readReplay } from "./read-replay.js";
import { settleBatch } from "./settle-batch.js";
import { settleQuietly } from "./settle-quietly.js";
import { throttled } from "./throttled.js";
import { tooLate } from "./too-late.js";

/** How often a call of a throttled coupon asks again; its deadline ends that sooner. */
const maxTries = 1_000;
/** Before a call that needs a ticket asks again for a coupon that the gate does not know yet: at first, and at most. */
const firstLoadPauseMs = 20;
const longestLoadPauseMs = 320;
/** Of a caller's time, what is left for the work itself when its ticket is due. */
const workMs = 500;
/**
 * Of the time that a reservation lasts, what is left for the commit itself and for Redis to hear of it: nothing is decided
 * after a sweep may have given the reservation up.
 */
export const settleMs = 500;
/** How many calls may be on their way to Postgres without the gate having let them through. */
const maxDirect = 2_000;

type IssueQueue = Queue<QueuedRequest, IssueResult>;

export interface QueuedRequest extends IssueRequest {
  /** Whether it has a reservation. */
  readonly reserved: boolean;
}

export interface Issued {
  readonly userCoupon: UserCoupon;
  readonly expiresAt: Date;
  readonly status: UserCouponStatus;
  /** Whether an earlier call with the same request id had issued it. */
  readonly replayed: boolean;
}

/** When to ask again. */
interface Again {
  /** null: when the gate may know the coupon. */
  readonly waitMs: number | null;
  readonly ticket?: number | undefined;
}

const stayAtWork: YieldPermit = (wait) => wait();

/** What is asked for; the user coupon gets its id here. */
export type IssueWish = Omit<IssueRequest, "userCouponId"> & Traced;

type IssueAttempt = IssueRequest & Pick<AdmissionRequest, "ticket"> & Traced;

interface Traced {
  /** Of the call, if it is traced. */
  readonly trace?: CallTrace | undefined;
}

export interface IssuerParts {
  readonly gate: Gate;
  readonly keeper: GateKeeper;
  readonly store: Pick<IssueStore, "issueBatch">;
  readonly lastUnits: LastUnits;
  readonly userCoupons: Pick<UserCouponStore, "get">;
  readonly quotaDays: QuotaDays;
  readonly clock: Clock;
  /** How long a reservation lasts. */
  readonly reservationMs: number;
  readonly openQueue: OpenQueue;
  /** Told what the gate said of a request (AWAY: nothing), and how long it took. */
  readonly onAdmission?: ((couponId: string, outcome: AdmissionOutcome | "AWAY", ms: number) => void) | undefined;
  /** Batches under way at once, of each queue. */
  readonly batches: { readonly issue: number; readonly issueCode: number };
}

/** One issue, from the gate to the committed row: Redis admits, Postgres decides. */
export class Issuer {
  readonly activity: IssueActivity;
  private directCount = 0;
  private reservedCount = 0;
  private readonly gate: Gate;
  private readonly keeper: GateKeeper;
  /** For requests that name no code, and for those that do: no batch may have both. */
  private readonly queues: { readonly any: IssueQueue; readonly code: IssueQueue };

  constructor(private readonly parts: IssuerParts) {
    const { gate, keeper, store, openQueue, batches } = parts;
    this.gate = gate;
    this.keeper = keeper;
    this.activity = new IssueActivity(() => parts.clock.nowMs());
    const open = (name: string, maxBatches: number): IssueQueue =>
      openQueue<QueuedRequest, IssueResult>(name, {
        maxBatches,
        commit: (requests, again) => store.issueBatch(requests, again),
        afterCommit: (requests, results) => settleBatch(gate, keeper, requests, results),
        keysOf: (request) => [
          `u ${request.couponId} ${request.userId}`,
          ...(request.requestId ? [`r ${request.requestId}`] : []),
        ],
        couponOf: ({ couponId }) => couponId,
      });
    this.queues = { any: open("issue", batches.issue), code: open("issue-code", batches.issueCode) };
  }

  /** Requests that have a reservation and are not decided yet. */
  get reservationsOpen(): number {
    return this.reservedCount;
  }

  /** Waits for its ticket where the coupon is throttled, and for others to be decided where they have the last units. */
  issue(wanted: IssueWish, deadlineMs: DeadlineMs, yieldPermit: YieldPermit = stayAtWork): Promise<Issued | Refusal> {
    return this.activity.observe(wanted.couponId, () => this.decide(wanted, deadlineMs, yieldPermit));
  }

  private async decide(wanted: IssueWish, deadlineMs: DeadlineMs, yieldPermit: YieldPermit): Promise<Issued | Refusal> {
    let request: IssueAttempt = Object.assign({}, wanted, { userCouponId: newId(this.parts.clock.nowMs()) });
    let loadPauseMs = firstLoadPauseMs;
    let pauses = 0;
    for (let tries = 1; tries <= maxTries; tries++) {
      const answer = await this.tryOnce(request, pauses, deadlineMs, yieldPermit);
      if (answer === "PAUSED") {
        pauses += 1;
        continue;
      }
      if (!("waitMs" in answer)) return answer;
      const waitMs = answer.waitMs ?? loadPauseMs;
      if (steadyMs() + waitMs >= deadlineMs) throw new DeadlinePassed();
      if (answer.waitMs === null) {
        loadPauseMs = Math.min(loadPauseMs * 2, longestLoadPauseMs);
        const load = this.keeper.loadOf(request.couponId);
        await (load ? Promise.race([load, sleep(longestLoadPauseMs)]) : sleep(waitMs));
      } else {
        // A timer may fire a little early.
        await yieldPermit(() => sleep(waitMs + 1));
      }
      // A ticket that it once had stays its own.
      if (answer.ticket !== undefined) request = { ...request, ticket: answer.ticket };
    }
    return new Refusal("OVERLOADED");
  }

  private async tryOnce(
    request: IssueAttempt,
    pauses: number,
    deadlineMs: DeadlineMs,
    yieldPermit: YieldPermit,
  ): Promise<Issued | Refusal | Again | "PAUSED"> {
    const reservedUntilMs = steadyMs() + this.parts.reservationMs - settleMs;
    const beganMs = this.parts.clock.nowMs();
    const askedMs = performance.now();
    const admission = await this.admit(request, deadlineMs);
    const admittedMs = performance.now();
    this.parts.onAdmission?.(request.couponId, admission.outcome, admittedMs - askedMs);
    request.trace?.step("gate admit", askedMs, admittedMs, {
      "db.system.name": "redis",
      "coupon.gate.outcome": admission.outcome,
    });
    switch (admission.outcome) {
      case "WAIT":
        return { waitMs: admission.waitMs ?? 1, ticket: admission.ticket };
      case "THROTTLED":
        return throttled(admission);
      case "RESERVED": {
        const { ticket } = admission;
        const reserved = ticket === undefined ? request : Object.assign({}, request, { hasTicket: true });
        const result = await this.decideReserved(reserved, deadlineMs, reservedUntilMs);
        // The throttle was set after the reservation was made.
        return result.outcome === "TICKET_NEEDED"
          ? { waitMs: null }
          : await this.conclude(request, result, deadlineMs, beganMs);
      }
      case "REPLAY": {
        const replayed = await readReplay(this.parts.userCoupons, request, admission.userCouponId ?? "", deadlineMs);
        if (replayed && request.codeId === undefined) return replayed;
        // Whether it was the same code, Postgres knows.
        break;
      }
      case "UNDECIDED": {
        const ask = () => this.decideDirect(request, deadlineMs);
        const result = await this.parts.lastUnits.decide(request, ask, { pauses, deadlineMs, yieldPermit });
        return result === "PAUSED" ? result : await this.conclude(request, result, deadlineMs, beganMs);
      }
      case "NOT_LOADED":
        this.keeper.load(request.couponId);
        break;
      case "IN_FLIGHT":
      case "GIVEN_BACK":
      case "AWAY":
        break;
      default:
        return this.refusal(admission.outcome === "SOLD_OUT" ? outOfStock(request) : admission.outcome, beganMs);
    }
    const result = await this.decideDirect(request, deadlineMs);
    if (result.outcome !== "TICKET_NEEDED") return await this.conclude(request, result, deadlineMs, beganMs);
    // Only the gate keeps the queue of a throttled coupon.
    return admission.outcome === "AWAY" ? new Refusal("STORE_UNAVAILABLE") : { waitMs: null };
  }

  private async admit(
    request: IssueAttempt,
    deadlineMs: DeadlineMs,
  ): Promise<Admission | { readonly outcome: "AWAY" }> {
    const patienceMs = Math.max(0, deadlineMs - steadyMs() - workMs);
    try {
      return await this.gate.admit(Number.isFinite(patienceMs) ? Object.assign({}, request, { patienceMs }) : request);
    } catch (error) {
      // The answers do not change without the gate; Postgres gives them all.
      if (error instanceof StoreUnavailable) return { outcome: "AWAY" };
      throw error;
    }
  }

  private async decideReserved(
    request: IssueRequest & Traced,
    deadlineMs: DeadlineMs,
    reservedUntilMs: number,
  ): Promise<IssueResult> {
    const untilMs = Math.min(deadlineMs, reservedUntilMs);
    this.reservedCount += 1;
    try {
      return await this.queueOf(request).submit(
        Object.assign({}, request, { untilMs, reserved: true }),
        untilMs,
        request.trace,
      );
    } catch (error) {
      // Not known whether the row is there: the reservation stays until a sweep has asked Postgres.
      if (error instanceof StoreUnavailable) throw error;
      await settleQuietly([{ outcome: "RELEASE", ...request } as const], (all) => this.gate.settle(all));
      throw error instanceof DeadlinePassed ? tooLate(deadlineMs) : error;
    } finally {
      this.reservedCount -= 1;
    }
  }

  /** The path past the gate. */
  private async decideDirect(request: IssueRequest & Traced, deadlineMs: DeadlineMs): Promise<IssueResult> {
    if (this.directCount >= maxDirect) throw new Overloaded();
    this.directCount += 1;
    try {
      return await this.queueOf(request).submit(
        Object.assign({}, request, { untilMs: deadlineMs, reserved: false }),
        deadlineMs,
        request.trace,
      );
    } finally {
      this.directCount -= 1;
    }
  }

  private queueOf({ codeId }: IssueRequest): IssueQueue {
    return codeId === undefined ? this.queues.any : this.queues.code;
  }

  private refusal(reason: IssueRefusal | CodeRefusal | "REQUEST_ID_REUSED", beganMs: number): Refusal {
    if (reason === "QUOTA_REACHED") {
      // Of the day in which it was asked: by now the next one may have begun, of which nothing is said.
      const { quotaDays, clock } = this.parts;
      const nextDayMs = beganMs + quotaDays.leftMs(beganMs);
      return new Refusal(reason, [], undefined, { retryAfterMs: Math.max(1, nextDayMs - clock.nowMs()) });
    }
    return reason === "REQUEST_ID_REUSED" ? requestIdReused() : new Refusal(reason);
  }

  private async conclude(
    request: IssueRequest,
    result: Exclude<IssueResult, { outcome: "TICKET_NEEDED" }>,
    deadlineMs: DeadlineMs,
    beganMs: number,
  ): Promise<Issued | Refusal> {
    if (result.outcome === "TOO_LATE") throw tooLate(deadlineMs);
    if (result.outcome === "OTHER_TYPE") return new Refusal("COUPON_NOT_FOUND");
    if (result.outcome === "REFUSED") return this.refusal(result.reason, beganMs);
    if (result.outcome === "ISSUED") return { status: "READY", replayed: false, ...result };
    const replayed = await readReplay(this.parts.userCoupons, request, result.userCouponId, deadlineMs);
    // The user coupon of the repeated request has been deleted.
    return replayed ?? new Refusal("USER_COUPON_NOT_FOUND");
  }
}
