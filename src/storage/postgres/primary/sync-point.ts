/**
 * Whether everything that a server shows is where a COMMIT has to be: on its standbys, too. While a COMMIT waits for them nobody
 * sees what it did; but after a crash of the server, or when the wait was cut off, everybody does, and what is answered then
 * could be lost with the server. A COMMIT of our own that has to wait tells: what came before it has arrived where it has.
 */
export class SyncPoint {
  /** Which one is wanted, and which one was reached last. */
  private wanted = 1;
  private reached = 0;
  private underWay: Promise<void> | undefined;

  /** `run` makes such a COMMIT. One at a time: each that is stuck holds a connection of the server. */
  constructor(private readonly run: () => Promise<void>) {}

  /** What was reached says nothing any more. */
  doubt(): void {
    this.wanted += 1;
  }

  async reach(): Promise<void> {
    const aim = this.wanted;
    while (this.reached < aim) {
      this.underWay ??= this.runOnce().finally(() => {
        this.underWay = undefined;
      });
      await this.underWay;
    }
  }

  private async runOnce(): Promise<void> {
    const aim = this.wanted;
    await this.run();
    this.reached = aim;
  }
}
