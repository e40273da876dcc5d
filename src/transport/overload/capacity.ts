import { Rate } from "./rate.js";

/** The weight of a window in what is served. */
const servedWeight = 0.07;
/** After so many windows with more to do than could be done, it is known. */
const knownAfterWindows = 10;

/** How many calls can be served: what was served lately while there was enough to do. */
export class Capacity {
  private readonly rate = new Rate(servedWeight);
  private fullWindows = 0;

  get perS(): number {
    return this.rate.perS;
  }

  get isKnown(): boolean {
    return this.fullWindows >= knownAfterWindows;
  }

  served(): void {
    this.rate.add();
  }

  /**
   * Ends a window that was so long. With little to do little is served, and while much is shed less than could be; until the
   * service was full for a while, that is all that is known.
   */
  roll(passedMs: number, { isFull, isMuchShed }: { isFull: boolean; isMuchShed: boolean }): void {
    if (isFull) this.fullWindows += 1;
    if (isFull || !this.isKnown) this.rate.roll(passedMs, !isFull || (this.isKnown && isMuchShed));
    else this.rate.skip();
  }
}
