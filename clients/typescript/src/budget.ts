/** What a call that succeeds gives back. So for long, one try in eleven is a retry at most. */
const refill = 0.1;

/**
 * How many retries a client may make. When all calls fail, retries stop soon, and do not multiply the load of a service that has too
 * much to do already.
 */
export class RetryBudget {
  private left: number;

  constructor(private readonly size: number) {
    this.left = size;
  }

  take(): boolean {
    if (this.left < 1) return false;
    this.left -= 1;
    return true;
  }

  succeeded(): void {
    this.left = Math.min(this.size, this.left + refill);
  }
}
