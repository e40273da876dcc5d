import type { CallTrace } from "../domain/call-context.js";
import { CouponsHeld } from "../domain/refusal.js";
import type { DeadlineMs } from "../storage/ports/page.js";
import type { GroupCommit } from "./group-commit.js";

/** Where items wait whose coupons somebody holds, while a queue goes on with all others: until they are free, or the item's time is over. */
export class HeldLane<I, O> {
  /** By coupon, those that wait. While there are any, others for that coupon come here at once. */
  private readonly waiting = new Map<string, number>();
  private readonly underWay = new Set<Promise<unknown>>();

  constructor(
    private readonly couponOf: (item: I) => string,
    private readonly queue: GroupCommit<I, O>,
  ) {}

  has(item: I): boolean {
    return this.waiting.size > 0 && this.waiting.has(this.couponOf(item));
  }

  /** Throws as `GroupCommit.submit` does. */
  submit(item: I, deadlineMs: DeadlineMs, trace: CallTrace | undefined): Promise<O> {
    const couponId = this.couponOf(item);
    this.waiting.set(couponId, (this.waiting.get(couponId) ?? 0) + 1);
    const done = this.untilFree(item, deadlineMs, trace).finally(() => {
      this.underWay.delete(done);
      const others = (this.waiting.get(couponId) ?? 1) - 1;
      if (others > 0) this.waiting.set(couponId, others);
      else this.waiting.delete(couponId);
    });
    this.underWay.add(done);
    return done;
  }

  async drain(): Promise<void> {
    while (this.underWay.size > 0) await Promise.allSettled(this.underWay);
  }

  private async untilFree(item: I, deadlineMs: DeadlineMs, trace: CallTrace | undefined): Promise<O> {
    for (;;) {
      try {
        return await this.queue.submit(item, deadlineMs, trace);
      } catch (error) {
        if (!(error instanceof CouponsHeld)) throw error;
      }
    }
  }
}
