/** From a message's headers to its end. */
const maxArrivalMs = 10_000;
const checkMs = 500;
/** Of those that are late, so many at most in one turn of the event loop. */
const maxInTurn = 50;

const nothing = () => {};

/** One message that is still arriving. */
export interface Arrival {
  readonly lateAtMs: number;
  onLate: () => void;
}

/**
 * Messages that are still arriving, and what is done about those that take too long. All have the same time, so the order in
 * which they began is that in which they are late, and one timer looks at the first few: one for each would cost every call.
 */
export class ArrivalDeadlines {
  private readonly arriving = new Set<Arrival>();
  private timer: NodeJS.Timeout | undefined;

  constructor(
    private readonly maxMs = maxArrivalMs,
    private readonly everyMs = checkMs,
  ) {}

  begin(onLate: () => void): Arrival {
    const arrival = { lateAtMs: performance.now() + this.maxMs, onLate };
    this.arriving.add(arrival);
    if (!this.timer) {
      this.timer = setInterval(() => this.check(), this.everyMs);
      this.timer.unref();
    }
    return arrival;
  }

  /**
   * It has arrived, or nobody waits for it any more. What it would do is let go of: V8 makes the table behind a busy Set anew
   * again and again, and what an old copy of the table holds is kept until the next full collection.
   */
  end(arrival: Arrival): void {
    this.arriving.delete(arrival);
    arrival.onLate = nothing;
  }

  private check(): void {
    const now = performance.now();
    let left = maxInTurn;
    for (const arrival of this.arriving) {
      if (arrival.lateAtMs > now) return;
      if (left === 0) {
        setImmediate(() => this.check());
        return;
      }
      left -= 1;
      this.arriving.delete(arrival);
      arrival.onLate();
    }
    clearInterval(this.timer);
    this.timer = undefined;
  }
}
