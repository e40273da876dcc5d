import { lookLeaseMs } from "../looks.js";
import type { Look } from "../port.js";

interface Time {
  readonly dueMs: number;
  readonly calmLooks: number;
  /** Changes with every change. */
  readonly claim: number;
}

/** When each coupon is looked at. */
export class MemoryLooks {
  private readonly times = new Map<string, Time>();
  private lastClaim = 0;

  constructor(private readonly now: () => number) {}

  /** Makes a coupon due for a look. */
  announce(couponId: string): void {
    this.set(couponId, 0, 0);
  }

  /** Takes coupons that are due, the longest due first. */
  claim(limit: number): (Pick<Look, "claim" | "calmLooks"> & { readonly couponId: string })[] {
    const nowMs = this.now();
    const due = [...this.times].filter(([, { dueMs }]) => dueMs <= nowMs);
    due.sort(([, a], [, b]) => a.dueMs - b.dueMs);
    return due.slice(0, limit).map(([couponId, { calmLooks }]) => {
      const claim = String(this.set(couponId, nowMs + lookLeaseMs, calmLooks));
      return { couponId, claim, calmLooks };
    });
  }

  /** pauseMs null: it is not looked at any more. Void when it was made due since. */
  end(couponId: string, claim: string, pauseMs: number | null, calmLooks: number): void {
    if (String(this.times.get(couponId)?.claim) !== claim) return;
    if (pauseMs === null) this.times.delete(couponId);
    else this.set(couponId, this.now() + pauseMs, calmLooks);
  }

  private set(couponId: string, dueMs: number, calmLooks: number): number {
    this.lastClaim += 1;
    this.times.set(couponId, { dueMs, calmLooks, claim: this.lastClaim });
    return this.lastClaim;
  }
}
