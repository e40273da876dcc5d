/** Does some work again and again, with a pause in between, until it is closed. */
export class Rounds {
  private timer: NodeJS.Timeout | undefined;
  private underWay: Promise<void> = Promise.resolve();
  private closed = false;

  constructor(
    private readonly work: () => Promise<void>,
    private readonly pauseMs: number,
    private readonly onError: (error: unknown) => void,
  ) {}

  start(): void {
    if (this.closed) return;
    this.timer = setTimeout(
      () => {
        this.underWay = this.work()
          .catch(this.onError)
          .finally(() => this.start());
      },
      // Replicas that started together do not work in step for ever.
      this.pauseMs * (0.75 + Math.random() / 2),
    );
  }

  /** Resolves when the round under way is done. */
  async close(): Promise<void> {
    this.closed = true;
    clearTimeout(this.timer);
    await this.underWay;
  }
}
