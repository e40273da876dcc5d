import { steadyMs } from "../../platform/clock.js";

/** What all replicas have counted under one key since its window began. */
export interface Total {
  readonly count: number;
  /** Until the window is over, in ms. */
  readonly leftMs: number;
}

/** Where replicas tell each other what they have counted. */
export interface SharedCounts {
  /** Adds what was counted here; null: nobody can be told now. Never rejects. */
  add(key: string, count: number): Promise<Total | null>;
}

export interface SharedCountOptions {
  readonly key: string;
  readonly windowMs: number;
  /** Absent: this replica counts for itself alone. */
  readonly shared?: SharedCounts | undefined;
}

/**
 * How often something has happened within a window of time, which begins with the first time. Counted here and at once;
 * the other replicas are told, and heard, in the background, so that nobody waits for it.
 */
export class SharedCount {
  /** Of all replicas, as far as it is known here. */
  private count = 0;
  /** What of it the others have not been told. */
  private untold = 0;
  private endsAtMs = Number.NEGATIVE_INFINITY;
  private isTelling = false;

  constructor(private readonly options: SharedCountOptions) {}

  /** How often so far; 0 once the window is over. */
  at(nowMs: number): number {
    return nowMs < this.endsAtMs ? this.count : 0;
  }

  /** Until it is over, in ms. */
  leftMs(nowMs: number): number {
    return Math.max(0, this.endsAtMs - nowMs);
  }

  /** Counts, and tells the others as soon as there are `tellEvery` that they do not know. */
  add(nowMs: number, tellEvery: number, count = 1): void {
    if (nowMs >= this.endsAtMs) {
      this.count = 0;
      this.untold = 0;
      this.endsAtMs = nowMs + this.options.windowMs;
    }
    this.count += count;
    this.untold += count;
    if (!this.isTelling) void this.tell(tellEvery);
  }

  private async tell(tellEvery: number): Promise<void> {
    const { shared, key } = this.options;
    if (!shared) return;
    this.isTelling = true;
    // What was counted while they were told comes after that.
    for (let isHeard = true; isHeard && this.untold >= tellEvery; ) {
      const { untold, endsAtMs } = this;
      this.untold = 0;
      const total = await shared.add(key, untold);
      isHeard = total !== null;
      // Unless a new window has begun here meanwhile.
      if (this.endsAtMs !== endsAtMs) continue;
      if (total) {
        this.count = total.count + this.untold;
        this.endsAtMs = steadyMs() + total.leftMs;
      } else this.untold += untold;
    }
    this.isTelling = false;
  }
}
