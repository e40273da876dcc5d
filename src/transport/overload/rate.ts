/** Events a second, as a mean that follows what is seen from window to window. */
export class Rate {
  private count = 0;
  private mean: number | null = null;
  private last = 0;

  /** `weight`: of a new window in the mean, from 0 to 1. */
  constructor(private readonly weight: number) {}

  get perS(): number {
    return this.mean ?? 0;
  }

  /** In the last window alone. */
  get lastPerS(): number {
    return this.last;
  }

  add(count = 1): void {
    this.count += count;
  }

  /** From now on it will be another one. */
  expect(perS: number): void {
    this.mean = perS;
  }

  /** Ends a window that says nothing. */
  skip(): void {
    this.count = 0;
  }

  /** Ends a window that was so long. With `riseOnly` one below the mean says nothing. */
  roll(passedMs: number, riseOnly = false): void {
    const seen = (this.count * 1_000) / passedMs;
    this.count = 0;
    this.last = seen;
    if (riseOnly && seen < this.perS) return;
    const mean = this.mean ?? seen;
    this.mean = mean + (seen - mean) * this.weight;
  }
}
