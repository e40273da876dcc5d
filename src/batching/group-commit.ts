import { setTimeout as sleep } from "node:timers/promises";
import type { CallTrace } from "../domain/call-context.js";
import { CouponsHeld, DeadlinePassed, Overloaded, StoreUnavailable } from "../domain/refusal.js";
import { steadyMs } from "../platform/clock.js";
import type { DeadlineMs } from "../storage/ports/page.js";
import { HeldLane } from "./held-lane.js";

/** Before a batch is sent once more after the store did not answer. */
const retryPauseMs = 50;

export interface GroupCommitOptions<I, O> {
  /** For traces. */
  readonly name?: string;
  /**
   * Commits a batch with one outcome for each item, in order. `again` says that an earlier call may have committed some
   * of the items: those must get the same outcomes.
   */
  readonly commit: (items: readonly I[], again: boolean) => Promise<O[]>;
  /** Runs after a commit and before the callers are answered, who are answered whether it fails or not. */
  readonly afterCommit: (items: readonly I[], outcomes: readonly O[]) => Promise<void>;
  readonly onAfterCommitError: (error: unknown) => void;
  /** Items that share a key never go into the same batch; the later one waits for the next. */
  readonly keysOf: (item: I) => readonly string[];
  /** Whose coupon others may hold, as `commit` says with CouponsHeld. Such items wait for it beside all others. */
  readonly couponOf?: (item: I) => string;
  readonly maxBatchSize: number;
  /**
   * Batches under way at once. With two, the store finds the next batch at hand when one is done, however long this
   * process takes to notice.
   */
  readonly maxBatches: number;
  /** A further batch is begun beside one under way when it has at least this many items. */
  readonly sideBatchSize: number;
  /** Past this many waiting items a new one is refused with Overloaded. */
  readonly maxWaiting: number;
  /** How many items a batch had, for the metrics. */
  readonly onBatch?: (size: number) => void;
  /** How long an item waited for its batch, in ms. */
  readonly onWaited?: (ms: number) => void;
  /** How long the store took for a batch, in ms. */
  readonly onCommitted?: (ms: number) => void;
}

export interface Waiting<I, O> {
  readonly item: I;
  readonly deadlineMs: DeadlineMs;
  readonly sinceMs: number;
  readonly trace: CallTrace | undefined;
  readonly resolve: (outcome: O) => void;
  readonly reject: (error: unknown) => void;
}

/**
 * While batches commit, the next one fills. The busier it is, the larger the batches, and the less a commit costs each
 * of its items; when it is idle, an item is committed at once.
 */
export class GroupCommit<I, O> {
  private waiting: Waiting<I, O>[] = [];
  private batchCount = 0;
  private starting = false;
  private readonly underWay = new Set<Promise<void>>();
  private readonly held: HeldLane<I, O> | undefined;

  /** `isLane`: a lane of another one, which is told by CouponsHeld what still cannot be committed. */
  constructor(
    private readonly options: GroupCommitOptions<I, O>,
    isLane = false,
  ) {
    // What is tried again was counted as a part of its first batch.
    const { couponOf, onBatch: _, onWaited: __, ...rest } = options;
    if (!couponOf || isLane) return;
    const lane = new GroupCommit<I, O>({ ...rest, couponOf, maxBatches: 1 }, true);
    this.held = new HeldLane(couponOf, lane, (entries) => this.add(entries));
  }

  /**
   * Throws Overloaded or DeadlinePassed when nothing was done and will not be, StoreUnavailable when it is not known
   * whether it was.
   */
  submit(item: I, deadlineMs: DeadlineMs, trace?: CallTrace): Promise<O> {
    if (this.waiting.length + (this.held?.size ?? 0) >= this.options.maxWaiting)
      return Promise.reject(new Overloaded());
    return new Promise((resolve, reject) => {
      this.add([{ item, deadlineMs, sinceMs: performance.now(), trace, resolve, reject }]);
    });
  }

  /** Resolves when everything that was submitted so far has been answered. */
  async drain(): Promise<void> {
    do {
      this.startBatches();
      while (this.underWay.size > 0) await Promise.all(this.underWay);
      await this.held?.drain();
    } while (this.waiting.length > 0);
  }

  private add(entries: readonly Waiting<I, O>[]): void {
    this.waiting.push(...entries);
    if (this.starting) return;
    this.starting = true;
    // What else arrives in this turn of the event loop comes along.
    setImmediate(() => {
      this.starting = false;
      this.startBatches();
    });
  }

  private startBatches(): void {
    const { maxBatches, sideBatchSize } = this.options;
    while (
      this.waiting.length > 0 &&
      (this.batchCount === 0 || (this.batchCount < maxBatches && this.waiting.length >= sideBatchSize))
    ) {
      const batch = this.takeBatch();
      if (batch.length === 0) continue;
      const done = this.runBatch(batch).finally(() => this.underWay.delete(done));
      this.underWay.add(done);
    }
  }

  private async runBatch(batch: readonly Waiting<I, O>[]): Promise<void> {
    const { name, onBatch, onWaited, onCommitted } = this.options;
    const startedMs = performance.now();
    onBatch?.(batch.length);
    for (const { sinceMs, trace } of batch) {
      onWaited?.(startedMs - sinceMs);
      trace?.step(`queue ${name}`, sinceMs, startedMs);
    }
    this.batchCount += 1;
    const outcomes = await this.commit(batch);
    this.batchCount -= 1;
    const committedMs = performance.now();
    onCommitted?.(committedMs - startedMs);
    // Each call has what the batch took: a span of the batch alone would be in nobody's trace.
    for (const [index, { trace }] of batch.entries()) {
      trace?.step(`commit ${name}`, startedMs, committedMs, {
        "db.system.name": "postgresql",
        "coupon.batch.size": batch.length,
        ...(outcomes[index] instanceof Error && { "error.type": outcomes[index].name }),
      });
    }
    for (const [index, entry] of batch.entries()) if (outcomes[index] instanceof CouponsHeld) this.held?.wait(entry);
    this.startBatches();
    await this.answer(batch, outcomes, committedMs);
  }

  /** Takes items in the order of their arrival, leaving those that clash with an earlier one. */
  private takeBatch(): Waiting<I, O>[] {
    const batch: Waiting<I, O>[] = [];
    const left: Waiting<I, O>[] = [];
    const keys = new Set<string>();
    const now = steadyMs();
    for (const [index, entry] of this.waiting.entries()) {
      if (batch.length >= this.options.maxBatchSize) {
        left.push(...this.waiting.slice(index));
        break;
      }
      if (entry.deadlineMs <= now) {
        entry.reject(new DeadlinePassed());
        continue;
      }
      if (this.held?.has(entry.item)) {
        this.held.wait(entry);
        continue;
      }
      const entryKeys = this.options.keysOf(entry.item);
      if (entryKeys.some((key) => keys.has(key))) {
        left.push(entry);
        continue;
      }
      for (const key of entryKeys) keys.add(key);
      batch.push(entry);
    }
    this.waiting = left;
    return batch;
  }

  /** An outcome or an error for each item. An item that the store chokes on is found by halving the batch. */
  private async commit(batch: readonly Waiting<I, O>[], again = false): Promise<(O | Error)[]> {
    try {
      const outcomes = await this.options.commit(
        batch.map(({ item }) => item),
        again,
      );
      if (outcomes.length !== batch.length) throw new Error(`${outcomes.length} outcomes for ${batch.length} items`);
      return outcomes;
    } catch (error) {
      // Nothing was done this time; what the first time came to is not known.
      if (again && (error instanceof Overloaded || error instanceof CouponsHeld)) {
        const unknown = new StoreUnavailable("the store did not answer, and then did nothing", { cause: error });
        return batch.map(() => unknown);
      }
      if (error instanceof CouponsHeld) return await this.commitFree(batch, error);
      if (error instanceof StoreUnavailable) {
        if (again) return batch.map(() => error);
        await sleep(retryPauseMs);
        return await this.commit(batch, true);
      }
      if (batch.length === 1) return [error instanceof Error ? error : new Error(String(error))];
      const half = Math.ceil(batch.length / 2);
      return [...(await this.commit(batch.slice(0, half), again)), ...(await this.commit(batch.slice(half), again))];
    }
  }

  /** Commits what no held coupon stands in the way of; of the rest the outcome is the error. */
  private async commitFree(batch: readonly Waiting<I, O>[], error: CouponsHeld): Promise<(O | Error)[]> {
    const isHeld = ({ item }: Waiting<I, O>) => error.couponIds.has(this.options.couponOf?.(item) ?? "");
    const free = batch.filter((entry) => !isHeld(entry));
    if (free.length === batch.length) return batch.map(() => new StoreUnavailable(error.message, { cause: error }));
    const outcomes = free.length > 0 ? await this.commit(free) : [];
    return batch.map((entry) => (isHeld(entry) ? error : (outcomes.shift() as O | Error)));
  }

  private async answer(
    batch: readonly Waiting<I, O>[],
    results: readonly (O | Error)[],
    committedMs: number,
  ): Promise<void> {
    const items: I[] = [];
    const outcomes: O[] = [];
    results.forEach((result, index) => {
      if (result instanceof Error) return;
      items.push((batch[index] as Waiting<I, O>).item);
      outcomes.push(result);
    });
    if (items.length > 0) await this.options.afterCommit(items, outcomes).catch(this.options.onAfterCommitError);
    results.forEach((result, index) => {
      const entry = batch[index] as Waiting<I, O>;
      // It waits in the lane.
      if (result instanceof CouponsHeld && this.held) return;
      entry.trace?.step(`settle ${this.options.name}`, committedMs, performance.now());
      if (result instanceof Error) entry.reject(result);
      else entry.resolve(result);
    });
  }
}
