import { CouponsHeld, DeadlinePassed } from "../domain/refusal.js";
import { steadyMs } from "../platform/clock.js";
import type { GroupCommit, Waiting } from "./group-commit.js";

/**
 * Where items wait whose coupons somebody holds, while their queue goes on with all others. Of each coupon one item, the scout, is tried
 * until the coupon is free; then those behind it go back to the queue.
 */
export class HeldLane<I, O> {
  /** By coupon, those behind the scout. */
  private readonly behind = new Map<string, Waiting<I, O>[]>();
  private readonly scouts = new Set<Promise<void>>();

  constructor(
    private readonly couponOf: (item: I) => string,
    private readonly queue: Pick<GroupCommit<I, O>, "submit">,
    private readonly goBack: (entries: readonly Waiting<I, O>[]) => void,
  ) {}

  /** How many wait here. */
  get size(): number {
    let size = this.behind.size;
    for (const { length } of this.behind.values()) size += length;
    return size;
  }

  has(item: I): boolean {
    return this.behind.size > 0 && this.behind.has(this.couponOf(item));
  }

  wait(entry: Waiting<I, O>): void {
    const couponId = this.couponOf(entry.item);
    const others = this.behind.get(couponId);
    if (others) {
      others.push(entry);
      return;
    }
    const behind: Waiting<I, O>[] = [];
    this.behind.set(couponId, behind);
    const scouting = this.scout(entry, behind).finally(() => {
      this.behind.delete(couponId);
      this.scouts.delete(scouting);
      this.goBack(behind);
    });
    this.scouts.add(scouting);
  }

  async drain(): Promise<void> {
    while (this.scouts.size > 0) await Promise.all(this.scouts);
  }

  private async scout(first: Waiting<I, O>, behind: Waiting<I, O>[]): Promise<void> {
    let scout: Waiting<I, O> | undefined = first;
    while (scout) {
      const { item, deadlineMs, trace, resolve, reject }: Waiting<I, O> = scout;
      const error: unknown = await this.queue
        .submit(item, deadlineMs, trace)
        .then(resolve, (thrown: unknown) => thrown);
      if (error instanceof CouponsHeld) {
        this.endLate(behind);
        continue;
      }
      if (error !== undefined) reject(error);
      // Else the coupon is free, as far as anybody knows.
      scout = error instanceof DeadlinePassed ? behind.shift() : undefined;
    }
  }

  private endLate(behind: Waiting<I, O>[]): void {
    const now = steadyMs();
    const inTime = behind.filter((entry) => {
      if (entry.deadlineMs > now) return true;
      entry.reject(new DeadlinePassed());
      return false;
    });
    behind.splice(0, behind.length, ...inTime);
  }
}
