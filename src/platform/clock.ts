/** Whose time counts: that of Postgres, which decides. What it says is not this machine's time. */
export interface Clock {
  /** Whole milliseconds since 1970. */
  nowMs(): number;
}

/**
 * For what this process waits and measures itself: milliseconds since 1970 by the clock that the machine had when the process
 * began. It goes on evenly whatever is done to that clock afterwards, so a deadline neither passes nor moves away by that.
 */
export function steadyMs(): number {
  return performance.timeOrigin + performance.now();
}

/** How much two clocks may part: more than what quartz does, and less than what is worth to be measured. */
const driftRate = 1e-4;
/** A clock that is wrong by so much is worth a warning, until it is wrong by less than half of it. */
const wrongMs = 1_000;

export interface MeasuredClockOptions {
  /** Told when this machine's clock turns out to be wrong, and when it is right again. */
  readonly onChange?: (isWrong: boolean, aheadMs: number) => void;
}

/**
 * The time of another machine, from what it answered when it was asked. Each answer says between which bounds the other
 * clock is ahead: it was read after the question was sent, and before the answer was here. The offset is moved only as far as
 * the bounds of all answers make it, so the time goes on evenly, and a late answer does no harm. An answer that cannot be
 * true beside the others comes from a clock that was set, or from another machine: then it alone counts.
 */
export class MeasuredClock implements Clock {
  private offsetMs = 0;
  private lowMs = Number.POSITIVE_INFINITY;
  private highMs = Number.NEGATIVE_INFINITY;
  private notedMs = 0;
  private isWrong = false;

  constructor(private readonly options: MeasuredClockOptions = {}) {}

  nowMs(): number {
    return Math.floor(steadyMs() + this.offsetMs);
  }

  /** How far this machine's clock is ahead; below 0: behind. */
  get aheadMs(): number {
    return Date.now() - (steadyMs() + this.offsetMs);
  }

  /** `theirMs`, in whole milliseconds, was read between the two times of `steadyMs()`. */
  note(sentMs: number, theirMs: number, receivedMs: number): void {
    const lowMs = theirMs - receivedMs;
    const highMs = theirMs + 1 - sentMs;
    const driftMs = (receivedMs - this.notedMs) * driftRate;
    const before = { lowMs: this.lowMs - driftMs, highMs: this.highMs + driftMs };
    const agrees = lowMs <= before.highMs && highMs >= before.lowMs;
    this.lowMs = agrees ? Math.max(lowMs, before.lowMs) : lowMs;
    this.highMs = agrees ? Math.min(highMs, before.highMs) : highMs;
    const wanted = agrees ? this.offsetMs : lowMs;
    // Less than the last millisecond, which is only there for what the other clock left out.
    this.offsetMs = Math.max(Math.min(wanted, this.highMs - 1), this.lowMs);
    this.notedMs = receivedMs;
    this.judge();
  }

  private judge(): void {
    const { aheadMs } = this;
    const isWrong = Math.abs(aheadMs) > (this.isWrong ? wrongMs / 2 : wrongMs);
    if (isWrong === this.isWrong) return;
    this.isWrong = isWrong;
    this.options.onChange?.(isWrong, Math.round(aheadMs));
  }
}
