import type { GateRequest } from "../port.js";

interface Pending {
  readonly request: GateRequest;
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

  add(request: GateRequest, deadlineMs: number): void {
    const ofCoupon = this.pending.get(request.couponId) ?? new Map<string, Pending>();
    ofCoupon.set(request.userCouponId, { request, deadlineMs });
    this.pending.set(request.couponId, ofCoupon);
  }

  /** Whether it was there. */
  delete(couponId: string, userCouponId: string): boolean {
    const ofCoupon = this.pending.get(couponId);
    const was = ofCoupon?.delete(userCouponId) ?? false;
    if (ofCoupon?.size === 0) this.pending.delete(couponId);
    return was;
  }
}
