import { type CallKind, callKinds } from "../../domain/caller-limits.js";

/** How long a call waits for a permit: in a burst, and when there has been a queue for so long that it is no burst. */
const burstPatienceMs = 250;
const congestedPatienceMs = 25;
/** A burst that begins so soon after there was no burst any more is part of the same, and is not borne for as long. */
const calmMs = 1_000;
const nextBurstPatienceMs = 100;
/** Calls that wait at once. For one more the one that has waited longest is refused. */
const maxWaiting = 400;

export interface Waiter {
  readonly kind: CallKind;
  /** Whose call it is. */
  readonly owner: object | null;
  /** When the answer is of no more use to the caller, in ms since 1970; Infinity: it did not say. */
  readonly deadlineMs: number;
  admit(): void;
  shed(): void;
}

interface Entry extends Waiter {
  readonly sinceMs: number;
}

/**
 * Calls that wait for a permit, bounded by time. A burst is served in the order of arrival. When the queue does not get empty
 * any more, waiting does not help: then the newest are served first, whose callers have most of their time left, and the
 * others are soon told to come again (as Facebook's adaptive LIFO with controlled delay does).
 */
export class WaitingQueue {
  /** Of each kind, the oldest first. */
  private readonly queues = new Map<CallKind, Entry[]>(callKinds.map((kind) => [kind, []]));
  private count = 0;
  private waitedFromMs: number | null = null;
  private congestedAtMs = Number.NEGATIVE_INFINITY;

  /** `isFlooded`: whether connections were turned away a moment ago: then a queue is no burst. */
  constructor(private readonly isFlooded: () => boolean) {}

  get length(): number {
    return this.count;
  }

  add(waiter: Waiter, nowMs: number): void {
    this.waitedFromMs ??= nowMs;
    this.queueOf(waiter.kind).push({ sinceMs: nowMs, ...waiter });
    this.count += 1;
    if (this.count > maxWaiting) this.takeOldest()?.shed();
  }

  /** Takes out who is next among those that may begin; undefined: nobody. What is shed last is served first. */
  next(mayBegin: (waiter: Pick<Waiter, "kind" | "owner">) => boolean, nowMs: number): Waiter | undefined {
    const newestFirst = this.isCongested(nowMs);
    for (let at = callKinds.length - 1; at >= 0; at -= 1) {
      const queue = this.queueOf(callKinds[at] as CallKind);
      const found = newestFirst ? queue.findLastIndex(mayBegin) : queue.findIndex(mayBegin);
      if (found < 0) continue;
      this.leave(1);
      return queue.splice(found, 1)[0];
    }
    return undefined;
  }

  /** Sheds those who have waited for too long, so many at most: the next time the others. */
  expire(nowMs: number, most: number): void {
    const patienceMs = this.isCongested(nowMs) ? congestedPatienceMs : this.burstMs(nowMs);
    let left = most;
    for (const queue of this.queues.values()) {
      let late = 0;
      while (late < Math.min(queue.length, left) && nowMs - (queue[late] as Entry).sinceMs >= patienceMs) late += 1;
      if (late === 0) continue;
      const gone = queue.splice(0, late);
      left -= late;
      this.leave(late);
      for (const one of gone) one.shed();
    }
  }

  /** Of the kind that is shed first. */
  private takeOldest(): Waiter | undefined {
    const kind = callKinds.find((one) => this.queueOf(one).length > 0);
    const oldest = kind && this.queueOf(kind).shift();
    if (oldest) this.leave(1);
    return oldest;
  }

  private leave(count: number): void {
    this.count -= count;
    if (this.count === 0) this.waitedFromMs = null;
  }

  private isCongested(nowMs: number): boolean {
    const isCongested = this.waitedFromMs !== null && nowMs - this.waitedFromMs >= this.burstMs(nowMs);
    if (isCongested) this.congestedAtMs = nowMs;
    return isCongested;
  }

  private burstMs(nowMs: number): number {
    return nowMs - this.congestedAtMs < calmMs || this.isFlooded() ? nextBurstPatienceMs : burstPatienceMs;
  }

  private queueOf(kind: CallKind): Entry[] {
    return this.queues.get(kind) as Entry[];
  }
}
