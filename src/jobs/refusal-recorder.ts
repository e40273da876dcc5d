import { limitedAs } from "../domain/principal.js";
import { StoreUnavailable } from "../domain/refusal.js";
import { BoundedCache } from "../platform/bounded-cache.js";
import type { Clock } from "../platform/clock.js";
import type { FailureLog } from "../platform/failure-log.js";
import { newId } from "../platform/new-id.js";
import type { AdminCall, AuditStore, RefusedCall } from "../storage/ports/audit.js";
import type { Job } from "./job-loop.js";

/** Refusals that wait to be written, and those that are written in one statement and in one run. */
const defaultMaxWaiting = 2_000;
const batchSize = 200;
const maxBatches = 10;
/**
 * What one caller is refused by one method is on record so often in a minute. What a caller may not do its limits do not count, and
 * a token that may next to nothing could fill the table; by method, so that no noise hides another attempt.
 */
const maxOfCaller = 100;
const callerWindowMs = 60_000;
/** Callers, by method, that are remembered. */
const maxRemembered = 20_000;

export interface RefusalRecorderOptions {
  readonly store: Pick<AuditStore, "recordRefused">;
  readonly clock: Clock;
  readonly failures: Pick<FailureLog, "failed" | "succeeded">;
  /** As many as were not put on record. */
  readonly onDropped: (count: number) => void;
  readonly maxWaiting?: number;
}

/**
 * Puts refused administrative calls on record, a moment later: nobody waits for it, and whoever is refused very often holds up
 * nobody. What is too much is dropped, counted, and reported.
 */
export class RefusalRecorder implements Job {
  readonly name = "record refusals";
  readonly pauseMs = 250;
  private readonly waiting: RefusedCall[] = [];
  private readonly ofCallers = new BoundedCache<{ count: number; readonly untilMs: number }>(maxRemembered);
  private isClosed = false;
  private readonly maxWaiting: number;

  constructor(private readonly options: RefusalRecorderOptions) {
    this.maxWaiting = options.maxWaiting ?? defaultMaxWaiting;
  }

  add(refused: Omit<RefusedCall, "at" | "id">): void {
    const nowMs = this.options.clock.nowMs();
    if (this.count(refused.call, nowMs) > maxOfCaller)
      this.drop(1, new Error(`${refused.call.method} refused a caller more than ${maxOfCaller} times in a minute`));
    else if (this.waiting.length < this.maxWaiting)
      this.waiting.push({ ...refused, at: new Date(nowMs), id: newId(nowMs) });
    else this.drop(1, new Error(`${this.maxWaiting} refusals wait to be put on record`));
  }

  /** How often so far in this minute, with this time. */
  private count({ principal, method }: AdminCall, nowMs: number): number {
    const name = `${method} ${limitedAs(principal)}`;
    let counted = this.ofCallers.get(name);
    if (!counted || nowMs >= counted.untilMs) {
      counted = { count: 0, untilMs: nowMs + callerWindowMs };
      this.ofCallers.set(name, counted);
    }
    counted.count += 1;
    return counted.count;
  }

  async run(): Promise<void> {
    for (let n = 0; n < maxBatches && this.waiting.length > 0; n++) {
      await this.write(this.waiting.splice(0, batchSize));
    }
    this.options.failures.succeeded("put refusals on record");
  }

  /** What is left is written before the end, or dropped. */
  async stop(): Promise<void> {
    this.isClosed = true;
    await this.run();
  }

  /** What Postgres refuses, it would refuse for ever: it is found by halving, so that it takes no other with it. */
  private async write(batch: RefusedCall[]): Promise<void> {
    const parts = [batch];
    for (let part = parts.shift(); part; part = parts.shift()) {
      try {
        await this.options.store.recordRefused(part);
      } catch (error) {
        const isAway = error instanceof StoreUnavailable;
        if (isAway && !this.isClosed) {
          // They wait for the next run.
          this.waiting.unshift(...part, ...parts.flat());
          throw error;
        }
        const half = Math.ceil(part.length / 2);
        if (isAway || part.length === 1) this.drop(part.length, error);
        else parts.unshift(part.slice(0, half), part.slice(half));
      }
    }
  }

  private drop(count: number, error: unknown): void {
    this.options.onDropped(count);
    this.options.failures.failed("put refusals on record", error);
  }
}
