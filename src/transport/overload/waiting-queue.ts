import { type CallKind, callKinds } from "../../domain/caller-limits.js";

/** A call waits for a permit for this share of the time that its caller gives it, through a burst at least, and so long at most. */
const patienceShare = 1 / 6;
const leastPatienceMs = 250;
const maxPatienceMs = 2_000;
/**
 * But never longer than this share of it: a caller that hears nothing resets its stream when its time is over, and a connection with too many
 * resets is closed by HTTP/2, with all calls of others on it.
 */
const mostShare = 0.8;
/** Calls that wait at once. For one more the one that has waited longest is refused. */
const maxWaiting = 5_000;
/** So many are a crowd: that of a flood, or of callers who have all called at once. */
const crowd = 400;
/** In a flood no more than a crowd waits, and for so long; when the queue has stood for that time it is not what is left of a flood, and waiting helps nobody. */
const floodBurstMs = 100;
const floodPatienceMs = 25;

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
  readonly patienceMs: number;
}

/**
 * Calls that wait for a permit, bounded by time, in the order of arrival: whoever calls again as soon as it is answered, from many
 * callers, is then served later and never refused; and who is refused has waited, so that calling again at once is no flood. In a
 * flood the newest are served first, whose callers have most of their time left, and the others are soon told to come again (as
 * Facebook's adaptive LIFO with controlled delay does).
 */
export class WaitingQueue {
  /** Of each kind, the oldest first. */
  private readonly queues = new Map<CallKind, Entry[]>(callKinds.map((kind) => [kind, []]));
  private count = 0;
  private waitedFromMs: number | null = null;

  /** `isFlooded`: whether connections were turned away a moment ago. */
  constructor(private readonly isFlooded: () => boolean) {}

  get length(): number {
    return this.count;
  }

  get isCrowded(): boolean {
    return this.count > crowd;
  }

  /** `leftMs`: the time that its caller gives it; `takesMs`: what it needs of that when it may begin. */
  add(waiter: Waiter, nowMs: number, leftMs: number, takesMs: number): void {
    this.waitedFromMs ??= nowMs;
    const wantedMs = Math.max(leftMs * patienceShare, leastPatienceMs);
    const patienceMs = Math.min(wantedMs, maxPatienceMs, leftMs * mostShare, leftMs - takesMs);
    this.queueOf(waiter.kind).push({ sinceMs: nowMs, patienceMs, ...waiter });
    this.count += 1;
    if (this.count > (this.isFlooded() ? crowd : maxWaiting)) this.takeOldest()?.shed();
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
    const mostMs = this.mostMs(nowMs);
    const late: Entry[] = [];
    for (const [kind, queue] of this.queues) {
      const stay = queue.filter((one) => {
        const isLate = late.length < most && nowMs - one.sinceMs >= Math.min(one.patienceMs, mostMs);
        if (isLate) late.push(one);
        return !isLate;
      });
      if (stay.length < queue.length) this.queues.set(kind, stay);
    }
    this.leave(late.length);
    for (const one of late) one.shed();
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

  /** How long anybody waits. */
  private mostMs(nowMs: number): number {
    if (!this.isFlooded()) return maxPatienceMs;
    return this.isCongested(nowMs) ? floodPatienceMs : floodBurstMs;
  }

  /** Whether it is a flood's, and has stood for a while. */
  private isCongested(nowMs: number): boolean {
    return this.isFlooded() && this.waitedFromMs !== null && nowMs - this.waitedFromMs >= floodBurstMs;
  }

  private queueOf(kind: CallKind): Entry[] {
    return this.queues.get(kind) as Entry[];
  }
}
