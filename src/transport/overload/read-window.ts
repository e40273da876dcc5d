/** When little is read for so long, it is all that has come. */
const quietMs = 300;

export interface EndedWindow {
  /** Since the window before it ended. */
  readonly passedMs: number;
  /** What was read in it has come in so long. */
  readonly readMs: number;
  /** In so many windows in a row, up to this one, more had arrived than was read. */
  readonly behind: number;
}

/**
 * Cuts time into windows in which is counted what comes. Under a flood a turn of the event loop is long, and what has arrived since
 * it began to read will be read by the next one: so a window reaches from where one turn began to read to where another one did.
 */
export class ReadWindow {
  private fromMs: number;
  private readFromMs: number;
  /** When the last turn that read something began to: what it has read had arrived by then. */
  private turnBeganMs = 0;
  private hasMore = false;
  private behind = 0;

  constructor(private readonly now: () => number) {
    this.fromMs = now();
    this.readFromMs = this.fromMs;
  }

  get passedMs(): number {
    return this.now() - this.fromMs;
  }

  /** A turn of the event loop has begun to read. */
  turnBegan(): void {
    this.turnBeganMs = this.now();
  }

  /** More had arrived than it was to read. */
  turnWasFull(): void {
    this.hasMore = true;
  }

  /** Begins a new one; null: this one is not that long yet, and goes on. To be called at the end of a turn. */
  end(leastMs: number): EndedWindow | null {
    const now = this.now();
    const untilReadMs = this.turnBeganMs - this.readFromMs;
    const isQuiet = untilReadMs < leastMs && now - this.readFromMs >= quietMs;
    const readUntilMs = untilReadMs <= 0 || isQuiet ? now : this.turnBeganMs;
    const passedMs = now - this.fromMs;
    const readMs = readUntilMs - this.readFromMs;
    if (Math.min(passedMs, readMs) < leastMs) return null;
    this.fromMs = now;
    this.readFromMs = readUntilMs;
    this.behind = this.hasMore ? this.behind + 1 : 0;
    this.hasMore = false;
    return { passedMs, readMs, behind: this.behind };
  }
}
