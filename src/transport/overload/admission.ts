import type { CallKind } from "../../domain/caller-limits.js";
import { steadyMs } from "../../platform/clock.js";
import { ConcurrencyLimit } from "./concurrency-limit.js";
import { FairShare } from "./fair-share.js";
import { type Waiter, WaitingQueue } from "./waiting-queue.js";

/**
 * The share of the limit that calls of a kind may fill: what is left above it is for the kinds that are shed later.
 */
const shares: Readonly<Record<CallKind, number>> = { manage: 0.7, issue: 0.85, use: 0.95, undo: 1 };
/** How often those who wait are looked at. */
const expiryCheckMs = 5;
/** Of those who have waited in vain, so many are told at once. */
const maxExpiredAtOnce = 100;
/** Calls that yield at once; a further one keeps its permit while it waits. */
const maxYielded = 5_000;
/** Calls that begin at once in one turn of the event loop: what is made of each takes some 0.1 to 0.2 ms. The others wait. */
const maxEnteredInTurn = 64;
/** Waiting calls that begin, or are found to have waited in vain, in one turn of the event loop. */
const maxServedInTurn = 32;
/** A call whose message takes longer to arrive gives its permit up until it is there, and how often that is looked at. */
const arrivalMs = 100;
const arrivalCheckMs = 50;

export interface AdmissionOptions {
  /** What the limit of calls at work never exceeds. */
  readonly maxAtWork: number;
  /** Told when a call has ended. */
  readonly onEnd?: () => void;
  /** Whether whole connections were turned away a moment ago. */
  readonly isFlooded?: () => boolean;
  /** In ms, from any point in time on, never going back. */
  readonly now?: () => number;
}

/** Of a call that may be at work. */
export interface Permit {
  /** Its message has arrived. False: that took so long that the permit was given up, and there is none now. */
  begin(): boolean;
  /** The call is over. Again: without effect. `sampled`: whether what it took says something of the others. */
  end(sampled: boolean): void;
  /** Waits for something that is no work, its ticket of a throttled coupon say: meanwhile another call may be at work. */
  yield<T>(wait: () => Promise<T>): Promise<T>;
}

/** Lets calls in as long as there are permits, lets others wait for a moment, and sheds the rest. */
export class Admission {
  private readonly limit: ConcurrencyLimit;
  private readonly queue: WaitingQueue;
  private readonly fair = new FairShare();
  private readonly now: () => number;
  private atWorkCount = 0;
  private enteredInTurn = 0;
  private servedInTurn = 0;
  private yieldedCount = 0;
  private timer: NodeJS.Timeout | undefined;
  /** Those whose messages are arriving, in the order in which they were let in. */
  private readonly arriving = new Set<HeldPermit>();
  private arrivalTimer: NodeJS.Timeout | undefined;

  constructor(private readonly options: AdmissionOptions) {
    this.limit = new ConcurrencyLimit(options.maxAtWork);
    this.queue = new WaitingQueue(options.isFlooded ?? (() => false));
    this.now = options.now ?? (() => performance.now());
  }

  get atWork(): number {
    return this.atWorkCount;
  }

  get waiting(): number {
    return this.queue.length;
  }

  /** Whether as many wait as in a flood. */
  get isCrowded(): boolean {
    return this.queue.isCrowded;
  }

  /** Calls that may be at work. */
  get most(): number {
    return this.limit.value;
  }

  /** null: there is no permit now. `owner`: the connection by which it has come; null: one that can have no other call. */
  enter(kind: CallKind, owner: object | null): Permit | null {
    this.fair.see(owner, this.now());
    if (this.enteredInTurn >= maxEnteredInTurn) return null;
    // The next turn lets in more of those who wait, and nobody overtakes them.
    if (this.servedInTurn >= maxServedInTurn && this.queue.length > 0) return null;
    if (!this.mayBegin({ kind, owner })) {
      this.limit.missed();
      return null;
    }
    if (this.enteredInTurn === 0) this.atTurnsEnd();
    this.enteredInTurn += 1;
    return this.letIn(kind, owner);
  }

  /** Of a call that found no permit. Tells it sooner or later, perhaps at once, that it may begin or is shed. */
  wait(
    { kind, owner, deadlineMs }: Pick<Waiter, "kind" | "owner" | "deadlineMs">,
    admit: (permit: Permit) => void,
    shed: () => void,
  ): void {
    const leftMs = deadlineMs - steadyMs();
    if (!this.isWorthwhile(leftMs)) {
      shed();
      return;
    }
    const waiter: Waiter = { kind, owner, deadlineMs, admit: () => admit(this.letIn(kind, owner)), shed };
    this.queue.add(waiter, this.now(), leftMs, this.limit.medianMs);
    this.timer ??= setInterval(() => this.check(), expiryCheckMs);
  }

  close(): void {
    clearInterval(this.timer);
    this.timer = undefined;
    clearInterval(this.arrivalTimer);
    this.arrivalTimer = undefined;
  }

  private letIn(kind: CallKind, owner: object | null): Permit {
    this.take(owner);
    const permit = new HeldPermit({ kind, owner }, this.now(), this.hold);
    this.arriving.add(permit);
    // After what has come meanwhile was read: a process that was held up for so long would take messages for late that are there.
    this.arrivalTimer ??= setInterval(() => setImmediate(() => this.expire()), arrivalCheckMs);
    return permit;
  }

  /** Whoever opens calls and sends no messages must not keep others out. */
  private expire(): void {
    const now = this.now();
    for (const permit of this.arriving) {
      if (now - permit.sinceMs < arrivalMs) break;
      this.arriving.delete(permit);
      permit.expire();
    }
    if (this.arriving.size > 0) return;
    clearInterval(this.arrivalTimer);
    this.arrivalTimer = undefined;
  }

  private readonly hold: Hold = {
    now: () => this.now(),
    arrived: (permit) => this.arriving.delete(permit),
    expire: () => this.leave(),
    goOnAfterExpiry: ({ kind }) => {
      if (this.atWorkCount >= this.permitsFor(kind)) return false;
      this.atWorkCount += 1;
      return true;
    },
    forget: (owner) => this.fair.remove(owner),
    giveUp: (owner) => this.giveUp(owner),
    ended: (tookMs) => {
      if (tookMs !== null) this.limit.sample(tookMs, this.atWorkCount, this.now());
      this.options.onEnd?.();
    },
    yield: (owner) => {
      if (this.yieldedCount >= maxYielded) return false;
      this.yieldedCount += 1;
      this.giveUp(owner);
      return true;
    },
    goOn: (owner) => {
      this.yieldedCount -= 1;
      this.take(owner);
    },
  };

  private take(owner: object | null): void {
    this.atWorkCount += 1;
    this.fair.add(owner);
  }

  private giveUp(owner: object | null): void {
    this.fair.remove(owner);
    this.leave();
  }

  private leave(): void {
    this.atWorkCount -= 1;
    this.serveQueue();
  }

  private check(): void {
    this.queue.expire(this.now(), maxExpiredAtOnce);
    this.serveQueue();
    if (this.queue.length > 0) return;
    clearInterval(this.timer);
    this.timer = undefined;
  }

  /** When many permits become free at once, further turns of the event loop go on with it. */
  private serveQueue(): void {
    while (this.queue.length > 0 && this.servedInTurn < maxServedInTurn) {
      const waiter = this.queue.next(this.mayBegin, this.now());
      if (!waiter) return;
      if (this.servedInTurn === 0) this.atTurnsEnd();
      this.servedInTurn += 1;
      if (this.isWorthwhile(waiter.deadlineMs - steadyMs())) waiter.admit();
      else waiter.shed();
    }
  }

  private atTurnsEnd(): void {
    setImmediate(() => {
      this.enteredInTurn = 0;
      this.servedInTurn = 0;
      this.serveQueue();
    });
  }

  private readonly mayBegin = ({ kind, owner }: Pick<Waiter, "kind" | "owner">): boolean => {
    const permits = this.permitsFor(kind);
    return this.atWorkCount < permits && this.fair.allows(owner, permits);
  };

  private permitsFor(kind: CallKind): number {
    return Math.max(1, this.limit.value * shares[kind]);
  }

  /** Whether a call that begins now is likely to be done before its caller has gone. */
  private isWorthwhile(leftMs: number): boolean {
    return leftMs > this.limit.medianMs;
  }
}

interface Hold {
  now(): number;
  /** Its message is not waited for any more. */
  arrived(permit: HeldPermit): void;
  /** Gives itself up, but still counts as its connection's: who opens calls and sends no messages gets no more permits. */
  expire(): void;
  /** False: there is none. */
  goOnAfterExpiry(call: Pick<Waiter, "kind" | "owner">): boolean;
  /** An expired one is over. */
  forget(owner: object | null): void;
  giveUp(owner: object | null): void;
  /** null: nothing is to be learned from what it took. */
  ended(tookMs: number | null): void;
  /** False: too many do. */
  yield(owner: object | null): boolean;
  goOn(owner: object | null): void;
}

class HeldPermit implements Permit {
  /** While it is expired, yielded or over, its call is not counted as one at work. */
  private state: "arriving" | "expired" | "working" | "yielded" | "over" = "arriving";
  private hasPaused = false;

  constructor(
    private readonly call: Pick<Waiter, "kind" | "owner">,
    readonly sinceMs: number,
    private readonly hold: Hold,
  ) {}

  begin(): boolean {
    this.hold.arrived(this);
    if (this.state === "expired" && !this.hold.goOnAfterExpiry(this.call)) return false;
    if (this.state !== "over") this.state = "working";
    return true;
  }

  expire(): void {
    if (this.state !== "arriving") return;
    this.state = "expired";
    this.hasPaused = true;
    this.hold.expire();
  }

  end(sampled: boolean): void {
    if (this.state === "over") return;
    this.hold.arrived(this);
    if (this.state === "yielded") this.hold.goOn(this.call.owner);
    const wasAtWork = this.state !== "expired";
    this.state = "over";
    this.hold.ended(sampled && !this.hasPaused ? this.hold.now() - this.sinceMs : null);
    if (wasAtWork) this.hold.giveUp(this.call.owner);
    else this.hold.forget(this.call.owner);
  }

  async yield<T>(wait: () => Promise<T>): Promise<T> {
    if (this.state !== "working" || !this.hold.yield(this.call.owner)) return await wait();
    this.state = "yielded";
    this.hasPaused = true;
    try {
      return await wait();
    } finally {
      // The call may have ended meanwhile, its caller's time being over.
      if ((this.state as string) === "yielded") {
        this.state = "working";
        this.hold.goOn(this.call.owner);
      }
    }
  }
}
