import type { CallKind } from "./call-kind.js";
import { ConcurrencyLimit } from "./concurrency-limit.js";
import { Rate } from "./rate.js";
import { type Waiter, WaitingLine } from "./waiting-line.js";

/**
 * The share of the limit that calls of a kind may fill: what is left above it is for the kinds that are shed later.
 */
const shares: Readonly<Record<CallKind, number>> = { manage: 0.7, issue: 0.85, use: 0.95, undo: 1 };
/** How often those who wait are looked at. */
const expiryCheckMs = 5;
/** How long ended calls are counted before they are part of the rate, and with which weight. */
const rateWindowMs = 100;
const rateWeight = 0.2;

export interface AdmissionOptions {
  /** What the limit of calls at work never exceeds. */
  readonly maxAtWork: number;
  /** Told when a call has ended. */
  readonly onEnd?: () => void;
  /** In ms, from any point in time on, never going back. */
  readonly now?: () => number;
}

/** A call's place among those at work. */
export interface Ticket {
  /** The call is over. Again: without effect. `sampled`: whether what it took says something of the others. */
  end(sampled: boolean): void;
  /** Waits for something that is no work, a turn in a coupon's line say: meanwhile another call has its place. */
  rest<T>(wait: () => Promise<T>): Promise<T>;
}

/** Lets calls in as long as there is room for them, lets others wait for a moment, and turns the rest away. */
export class Admission {
  private readonly limit: ConcurrencyLimit;
  private readonly line = new WaitingLine();
  private readonly now: () => number;
  private atWorkCount = 0;
  private restingCount = 0;
  private readonly ended = new Rate(rateWeight);
  private rateFromMs: number;
  private timer: NodeJS.Timeout | undefined;

  constructor(private readonly options: AdmissionOptions) {
    this.limit = new ConcurrencyLimit(options.maxAtWork);
    this.now = options.now ?? (() => performance.now());
    this.rateFromMs = this.now();
  }

  get atWork(): number {
    return this.atWorkCount;
  }

  get waiting(): number {
    return this.line.length;
  }

  /** Calls that may be at work. */
  get most(): number {
    return this.limit.value;
  }

  /** null: there is no room now, or others wait for it. */
  enter(kind: CallKind): Ticket | null {
    if (this.line.length > 0 || !this.hasRoom(kind)) {
      this.limit.missed();
      return null;
    }
    return this.begin();
  }

  /** Of a call that found no room. Tells it sooner or later, perhaps at once, that it may begin or is turned away. */
  wait(kind: CallKind, deadlineMs: number, admit: (ticket: Ticket) => void, refuse: () => void): void {
    if (!this.isWorthwhile(deadlineMs)) {
      refuse();
      return;
    }
    const waiter: Waiter = { kind, deadlineMs, admit: () => admit(this.begin()), refuse };
    this.line.add(waiter, this.now(), this.ended.perS);
    this.timer ??= setInterval(() => this.look(), expiryCheckMs);
  }

  close(): void {
    clearInterval(this.timer);
    this.timer = undefined;
  }

  private begin(): Ticket {
    this.atWorkCount += 1;
    return new HeldTicket(this.now(), this.hold);
  }

  private readonly hold: Hold = {
    now: () => this.now(),
    end: (tookMs) => {
      const now = this.now();
      if (tookMs !== null) this.limit.sample(tookMs, this.atWorkCount, now);
      this.atWorkCount -= 1;
      this.ended.add();
      if (now - this.rateFromMs >= rateWindowMs) {
        this.ended.roll(now - this.rateFromMs);
        this.rateFromMs = now;
      }
      this.options.onEnd?.();
      this.letIn();
    },
    rest: () => {
      if (this.restingCount >= this.options.maxAtWork) return false;
      this.restingCount += 1;
      this.atWorkCount -= 1;
      this.letIn();
      return true;
    },
    goOn: () => {
      this.restingCount -= 1;
      this.atWorkCount += 1;
    },
  };

  private look(): void {
    this.line.expire(this.now());
    this.letIn();
    if (this.line.length === 0) this.close();
  }

  private letIn(): void {
    while (this.line.length > 0) {
      const waiter = this.line.next((kind) => this.hasRoom(kind), this.now());
      if (!waiter) return;
      if (this.isWorthwhile(waiter.deadlineMs)) waiter.admit();
      else waiter.refuse();
    }
  }

  private hasRoom(kind: CallKind): boolean {
    return this.atWorkCount < Math.max(1, this.limit.value * shares[kind]);
  }

  /** Whether a call that begins now is likely to be done before its caller has gone. */
  private isWorthwhile(deadlineMs: number): boolean {
    return deadlineMs - Date.now() > this.limit.medianMs;
  }
}

interface Hold {
  now(): number;
  /** null: nothing is to be learned from what it took. */
  end(tookMs: number | null): void;
  /** False: too many do. */
  rest(): boolean;
  goOn(): void;
}

class HeldTicket implements Ticket {
  private state: "working" | "resting" | "over" = "working";
  private hasRested = false;

  constructor(
    private readonly sinceMs: number,
    private readonly hold: Hold,
  ) {}

  end(sampled: boolean): void {
    if (this.state === "over") return;
    if (this.state === "resting") this.hold.goOn();
    this.state = "over";
    this.hold.end(sampled && !this.hasRested ? this.hold.now() - this.sinceMs : null);
  }

  async rest<T>(wait: () => Promise<T>): Promise<T> {
    if (this.state !== "working" || !this.hold.rest()) return await wait();
    this.state = "resting";
    this.hasRested = true;
    try {
      return await wait();
    } finally {
      // The call may have ended meanwhile, its caller's time being over.
      if ((this.state as string) === "resting") {
        this.state = "working";
        this.hold.goOn();
      }
    }
  }
}
