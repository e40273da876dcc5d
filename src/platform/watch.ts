const pauseMs = 1_000;

/** Asks a store for a sign of life, and tells when that changes. The state is "up" until a look has failed. */
export class Watch {
  private timer: NodeJS.Timeout | undefined;
  private closed = false;
  private upNow = true;

  constructor(
    /** Rejects when the store does not answer in time. */
    private readonly look: () => Promise<unknown>,
    private readonly onChange: (up: boolean) => void,
  ) {}

  get up(): boolean {
    return this.upNow;
  }

  start(): void {
    if (this.closed) return;
    this.timer = setTimeout(() => void this.round(), pauseMs);
  }

  close(): void {
    this.closed = true;
    clearTimeout(this.timer);
  }

  private async round(): Promise<void> {
    const up = await this.look().then(
      () => true,
      () => false,
    );
    if (this.closed) return;
    if (up !== this.upNow) {
      this.upNow = up;
      this.onChange(up);
    }
    this.start();
  }
}
