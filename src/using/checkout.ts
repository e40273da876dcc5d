import type { OpenQueue, Queue } from "../batching/queues.js";
import type { CallTrace } from "../domain/call-context.js";
import { DeadlinePassed, Overloaded, Refusal, requestIdReused, StoreUnavailable } from "../domain/refusal.js";
import {
  type ChosenCoupon,
  isOrderOf,
  type Judgement,
  judgeOrder,
  noStandingUses,
  type Order,
  refusalOfOrder,
  type StandingUses,
  type Usage,
} from "../domain/usage.js";
import type { GateKeeper } from "../issuing/gate-keeper.js";
import { settleMs } from "../issuing/issuer.js";
import { settleQuietly } from "../issuing/settle-quietly.js";
import { tooLate } from "../issuing/too-late.js";
import { steadyMs } from "../platform/clock.js";
import { newId } from "../platform/new-id.js";
import type { Gate, PlaceOutcome, PlaceSettlement } from "../reservation/port.js";
import type { DeadlineMs } from "../storage/ports/page.js";
import type {
  Lock,
  LockRequest,
  LockResult,
  OrderChoice,
  ReadChoice,
  UsageStore,
  UseRequest,
  UseResult,
} from "../storage/ports/usages.js";
import { lockKeys, type Result, refusalOfResults, useKeys, useRequests } from "./use-requests.js";

/**
 * How often an order is judged anew because a coupon was edited between judging and using, or another call with the same order
 * was first. Each time one of those calls has got on: so many may be made of one order at once.
 */
const maxAttempts = 20;

export interface JudgedOrder extends Judgement {
  readonly chosen: readonly (ChosenCoupon | null)[];
  readonly standing: StandingUses;
  /** Of the database's clock. */
  readonly now: Date;
}

export interface Used {
  readonly usages: readonly Usage[];
  readonly replayed: boolean;
}

export interface CheckoutParts {
  readonly store: UsageStore;
  readonly gate: Gate;
  readonly keeper: GateKeeper;
  /** How long a place is reserved while its use is not decided. */
  readonly reservationMs: number;
  readonly openQueue: OpenQueue;
  /** Batches under way at once, of each queue that commits. */
  readonly batches: { readonly use: number; readonly lock: number };
  /** Told when an order is committed and the gate could not be told of it, which the caller does not hear of. */
  readonly onSettleError: (error: unknown) => void;
  /** Told what the gate said of a use under a cap (AWAY: nothing), and how long it took. */
  readonly onPlace?: ((outcome: PlaceOutcome | "AWAY", ms: number) => void) | undefined;
}

/** Quotes, locks and uses what an order names. One user coupon is committed with others' in a batch; several are one transaction. */
export class Checkout {
  private readonly store: UsageStore;
  private readonly gate: Gate;
  private readonly keeper: GateKeeper;
  private readonly reservationMs: number;
  private readonly onSettleError: CheckoutParts["onSettleError"];
  private readonly onPlace: CheckoutParts["onPlace"];
  private readonly queues: {
    readonly reads: Queue<OrderChoice, ReadChoice>;
    readonly uses: Queue<UseRequest, UseResult>;
    readonly locks: Queue<LockRequest, LockResult>;
  };

  constructor({ store, gate, keeper, reservationMs, openQueue, batches, onSettleError, onPlace }: CheckoutParts) {
    this.store = store;
    this.gate = gate;
    this.keeper = keeper;
    this.reservationMs = reservationMs;
    this.onSettleError = onSettleError;
    this.onPlace = onPlace;
    this.queues = {
      // A read is over so soon that larger batches are worth more than a second one beside it.
      reads: openQueue<OrderChoice, ReadChoice>("read", {
        commit: (choices) => store.readChosen(choices),
        keysOf: () => [],
      }),
      // What a commit costs is shared by its rows; while one is under way, the next orders are read and judged.
      uses: openQueue<UseRequest, UseResult>("use", {
        commit: (requests, again) => store.useBatch(requests, { again, together: false }),
        afterCommit: (requests, results) => settleUses(gate, keeper, requests, results),
        ...useKeys,
        maxBatches: batches.use,
      }),
      locks: openQueue<LockRequest, LockResult>("lock", {
        commit: (requests) => store.lockBatch(requests, { together: false }),
        ...lockKeys,
        maxBatches: batches.lock,
      }),
    };
  }

  async judge(order: Order, deadlineMs: DeadlineMs, lockToken = ""): Promise<JudgedOrder> {
    const { userId, choices, orderId, trace } = order;
    const read = await Promise.all(
      choices.map(({ userCouponId }) => this.queues.reads.submit({ userId, userCouponId, orderId }, deadlineMs, trace)),
    );
    const chosen = read.map(({ value }) => value);
    const now = latest(read.map((one) => one.now));
    // Read at once; should they differ, the commit finds out.
    const standing = read[0]?.standing ?? noStandingUses;
    return { chosen, standing, now, ...judgeOrder(order, chosen, now, lockToken, standing) };
  }

  /** `requestId` "": the caller gave none. */
  async lock(order: Order, requestId: string, deadlineMs: DeadlineMs): Promise<readonly Lock[] | Refusal> {
    // Without a request id the call still needs a name, for its own batch may be sent twice.
    const token = requestId || newId(steadyMs());
    const { objections, chosen, now } = await this.judge(order, deadlineMs, token);
    const refusal = refusalOfOrder(objections, chosen, now);
    if (refusal) return refusal;
    const requests = order.choices.map((choice, index): LockRequest => {
      const { coupon } = chosen[index] as ChosenCoupon;
      return {
        couponId: coupon.id,
        userId: order.userId,
        orderId: order.orderId,
        orderAmount: order.amount,
        token,
        ...choice,
      };
    });
    const [only] = requests;
    const results =
      requests.length === 1 && only
        ? [await this.queues.locks.submit(only, deadlineMs, order.trace)]
        : await this.store.lockBatch(requests, { together: true });
    const locks = results.flatMap((result) => (result.outcome === "GRANTED" ? [result.lock] : []));
    return locks.length === requests.length ? locks : await this.refusalAfter(results, order, deadlineMs, token);
  }

  /** `requestId` "": the caller gave none. */
  async use(order: Order, requestId: string, deadlineMs: DeadlineMs): Promise<Used | Refusal> {
    for (let attempt = 1; attempt <= maxAttempts; attempt++) {
      const judged = await this.judge(order, deadlineMs);
      const refusal = refusalOfOrder(judged.objections, judged.chosen, judged.now);
      if (refusal) return (await this.replay(order, requestId, deadlineMs)) ?? refusal;

      const reservedUntilMs = steadyMs() + this.reservationMs - settleMs;
      const requests = await this.takePlaces(
        useRequests(order, requestId, judged),
        Math.min(deadlineMs, reservedUntilMs),
        deadlineMs,
        order.trace,
      );
      if (requests instanceof Refusal) return (await this.replay(order, requestId, deadlineMs)) ?? requests;
      const results = await this.commit(requests, deadlineMs, order.trace);
      if (results.some(({ outcome }) => outcome === "TOO_LATE")) throw tooLate(deadlineMs);
      if (results.some(({ outcome }) => outcome === "STALE")) continue;
      if (results.some(({ outcome }) => outcome === "REPLAYED")) {
        return (await this.replay(order, requestId, deadlineMs)) as Used | Refusal;
      }
      const usages = results.flatMap((result) => (result.outcome === "USED" ? [result.usage] : []));
      if (usages.length === requests.length) return { usages, replayed: false };
      return await this.refusalAfter(results, order, deadlineMs);
    }
    // Nothing was done: the coupons of this order are being edited, or the order used, without a pause.
    throw new Overloaded();
  }

  /**
   * Of an order that was judged usable and refused all the same, for something happened in between. Judged anew, it has
   * every reason and says when a lock ends, neither of which the outcomes tell.
   */
  private async refusalAfter(
    results: readonly Result[],
    order: Order,
    deadlineMs: DeadlineMs,
    lockToken = "",
  ): Promise<Refusal> {
    const { objections, chosen, now } = await this.judge(order, deadlineMs, lockToken);
    return refusalOfOrder(objections, chosen, now) ?? refusalOfResults(results);
  }

  /** What an earlier call with this request id has used; null when there was none. */
  private async replay(order: Order, requestId: string, deadlineMs: DeadlineMs): Promise<Used | Refusal | null> {
    if (requestId === "") return null;
    const usages = await this.store.ofRequest(requestId, deadlineMs);
    if (usages.length === 0) return null;
    return isOrderOf(usages, order) ? { usages, replayed: true } : requestIdReused();
  }

  /** Lets those through that need a new place under a usage cap: all of them, or none. */
  private async takePlaces(
    requests: readonly (UseRequest & { needsPlace: boolean })[],
    reservedUntilMs: number,
    deadlineMs: DeadlineMs,
    trace: CallTrace | undefined,
  ): Promise<readonly UseRequest[] | Refusal> {
    const outcomes = await Promise.all(
      requests.map((request) => (request.needsPlace ? this.takePlace(request, trace) : null)),
    );
    const taken = requests.map((request, index) => {
      const placeTaken = outcomes[index] === "TAKEN";
      return Object.assign({}, request, { placeTaken, untilMs: placeTaken ? reservedUntilMs : deadlineMs });
    });
    if (!outcomes.includes("USAGE_CAP_REACHED")) return taken;
    await this.settle(taken, "RELEASE");
    return refusalOfResults(
      outcomes.map((outcome) =>
        outcome === "USAGE_CAP_REACHED" ? { outcome: "REFUSED", reason: outcome } : { outcome: "CONSENT" },
      ),
    );
  }

  private async takePlace(request: UseRequest, trace: CallTrace | undefined): Promise<PlaceOutcome> {
    const askedMs = performance.now();
    const said = (outcome: PlaceOutcome | "AWAY") => {
      const answeredMs = performance.now();
      this.onPlace?.(outcome, answeredMs - askedMs);
      const attributes = { "db.system.name": "redis", "coupon.gate.outcome": outcome };
      trace?.step("gate take_place", askedMs, answeredMs, attributes);
    };
    try {
      const outcome = await this.gate.takePlace(request);
      said(outcome);
      if (outcome === "NOT_LOADED") this.keeper.loadPlaces(request.couponId);
      return outcome;
    } catch (error) {
      if (!(error instanceof StoreUnavailable)) throw error;
      said("AWAY");
      // The answers do not change without the gate; Postgres gives them all.
      return "NOT_LOADED";
    }
  }

  private async commit(
    requests: readonly UseRequest[],
    deadlineMs: DeadlineMs,
    trace: CallTrace | undefined,
  ): Promise<UseResult[]> {
    const [only] = requests;
    let results: UseResult[];
    try {
      if (requests.length === 1 && only)
        return [await this.queues.uses.submit(only, only.untilMs ?? deadlineMs, trace)];
      results = await this.store.useBatch(requests, { again: false, together: true });
    } catch (error) {
      // Not known whether the rows are there: the places stay taken until a sweep has asked Postgres.
      if (error instanceof StoreUnavailable) throw error;
      await this.settle(requests, "RELEASE");
      throw error instanceof DeadlinePassed ? tooLate(deadlineMs) : error;
    }
    await settleUses(this.gate, this.keeper, requests, results).catch(this.onSettleError);
    return results;
  }

  private async settle(requests: readonly UseRequest[], outcome: "RELEASE"): Promise<void> {
    const settlements = requests
      .filter((request) => request.placeTaken)
      .map((request): PlaceSettlement => ({ outcome, ...request }));
    await settleQuietly(settlements, (all) => this.gate.settlePlaces(all));
  }
}

/** Tells the gate what became of a committed batch. */
export async function settleUses(
  gate: Gate,
  keeper: GateKeeper,
  requests: readonly UseRequest[],
  results: readonly UseResult[],
): Promise<void> {
  const settlements: PlaceSettlement[] = [];
  const differing = new Set<string>();
  const exhausted = new Set<string>();
  requests.forEach(({ couponId, usageId, placeTaken }, index) => {
    const result = results[index] as UseResult;
    const isUsed = result.outcome === "USED";
    const isPlaced = isUsed && result.placed;
    if (placeTaken) settlements.push({ couponId, usageId, outcome: isPlaced ? "CONFIRM" : "RELEASE" });
    if (isUsed && result.exhausted) exhausted.add(couponId);
    // Let through here and refused there: the copy is out of date.
    if (placeTaken && result.outcome === "REFUSED" && result.reason === "USAGE_CAP_REACHED") differing.add(couponId);
  });
  await settleQuietly(settlements, (all) => gate.settlePlaces(all));
  // Issuing stops, too, so the gate has to be read anew.
  for (const couponId of new Set([...exhausted, ...differing])) await keeper.invalidate(couponId);
}

function latest(times: readonly Date[]): Date {
  return new Date(Math.max(...times.map((time) => time.getTime())));
}
