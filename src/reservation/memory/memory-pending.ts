import type { Ask } from "../port.js";

interface Pending {
  readonly ask: Ask;
  readonly deadlineMs: number;
}

/** The reservations that Postgres has not decided, by coupon. */
export class MemoryPending {
  private readonly pending = new Map<string, Map<string, Pending>>();

  get couponIds(): Iterable<string> {
    return this.pending.keys();
  }

  of(couponId: string): Pending[] {
    return [...(this.pending.get(couponId)?.values() ?? [])];
  }

  count(couponId: string): number {
    return this.pending.get(couponId)?.size ?? 0;
  }

  add(ask: Ask, deadlineMs: number): void {
    const ofCoupon = this.pending.get(ask.couponId) ?? new Map<string, Pending>();
    ofCoupon.set(ask.userCouponId, { ask, deadlineMs });
    this.pending.set(ask.couponId, ofCoupon);
  }

  /** Whether it was there. */
  delete(couponId: string, userCouponId: string): boolean {
    const ofCoupon = this.pending.get(couponId);
    const was = ofCoupon?.delete(userCouponId) ?? false;
    if (ofCoupon?.size === 0) this.pending.delete(couponId);
    return was;
  }
}
