const pauseMs = 1_000;

/** Counts what would be too much to write down one by one, and writes one line a second for each name. */
export class ShedLog {
  private readonly counts = new Map<string, number>();
  private timer: NodeJS.Timeout | undefined;

  constructor(private readonly write: (name: string, count: number) => void) {}

  add(name: string, count = 1): void {
    this.counts.set(name, (this.counts.get(name) ?? 0) + count);
    this.timer ??= setTimeout(() => this.flush(), pauseMs);
  }

  /** What was counted since the last line is written now. */
  flush(): void {
    clearTimeout(this.timer);
    this.timer = undefined;
    for (const [name, count] of this.counts) this.write(name, count);
    this.counts.clear();
  }
}
