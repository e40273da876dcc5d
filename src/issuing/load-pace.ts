import { setTimeout as sleep } from "node:timers/promises";

/** While others issue, a load rests for so many times as long as it has worked: it takes no more than a third of the time. */
const restFactor = 2;
/** Work that is too short to rest after: timers are no finer than that. */
const leastWorkMs = 10;
/** Far below what a step of a load may take. */
const longestRestMs = 1_000;
/** From so many decided requests on, others issue: fewer leave the machine to the load. */
const busyPerSecond = 50;
/** What was decided is counted for so long, and for as long again. */
const windowMs = 250;

export interface LoadPaceClock {
  nowMs(): number;
  sleep(ms: number): Promise<unknown>;
}

/**
 * How fast coupons are loaded: at full speed while nobody else issues anything, and with rests in between while somebody does. What is
 * issued of the same coupon does not count: whoever waits for it is served better when it is loaded.
 */
export class LoadPace {
  /** Requests that Postgres has decided, by coupon, in this window and in the one before. */
  private current = new Map<string, number>();
  private previous = new Map<string, number>();
  private windowAtMs: number;

  constructor(private readonly clock: LoadPaceClock = { nowMs: () => performance.now(), sleep }) {
    this.windowAtMs = clock.nowMs();
  }

  decided(requests: readonly { readonly couponId: string }[]): void {
    this.roll();
    for (const { couponId } of requests) this.current.set(couponId, (this.current.get(couponId) ?? 0) + 1);
  }

  /** For one load of a coupon: to be called, and waited for, after each of its steps. */
  begin(couponId: string): () => Promise<void> {
    let sinceMs = this.clock.nowMs();
    return async () => {
      const workedMs = this.clock.nowMs() - sinceMs;
      if (workedMs < leastWorkMs) return;
      if (this.isBusy(couponId)) await this.clock.sleep(Math.min(workedMs * restFactor, longestRestMs));
      sinceMs = this.clock.nowMs();
    };
  }

  private isBusy(couponId: string): boolean {
    this.roll();
    let count = 0;
    for (const window of [this.current, this.previous]) {
      for (const [decided, times] of window) if (decided !== couponId) count += times;
    }
    return count * 1_000 >= busyPerSecond * windowMs;
  }

  private roll(): void {
    const nowMs = this.clock.nowMs();
    if (nowMs < this.windowAtMs + windowMs) return;
    this.previous = nowMs < this.windowAtMs + 2 * windowMs ? this.current : new Map();
    this.current = new Map();
    this.windowAtMs = nowMs;
  }
}
