import { keepQuotaDayMs } from "../port.js";

interface Day {
  keepUntilMs: number;
  /** By user: whether each user coupon of the day is pending. */
  readonly users: Map<string, Map<string, boolean>>;
}

/** What users were issued of quota groups, by group and day. */
export class QuotaUse {
  private readonly days = new Map<string, Day>();

  /** How many the user has, and how many of them are decided. */
  count(group: string, day: string, userId: string): { readonly all: number; readonly decided: number } {
    const states = [...(this.days.get(`${group} ${day}`)?.users.get(userId)?.values() ?? [])];
    return { all: states.length, decided: states.filter((isPending) => !isPending).length };
  }

  has(group: string, day: string, userId: string, userCouponId: string): boolean {
    return this.days.get(`${group} ${day}`)?.users.get(userId)?.has(userCouponId) ?? false;
  }

  set(group: string, day: string, userId: string, userCouponId: string, isPending: boolean, nowMs: number): void {
    const name = `${group} ${day}`;
    const found = this.days.get(name) ?? { keepUntilMs: 0, users: new Map() };
    const ofUser = found.users.get(userId) ?? new Map();
    this.days.set(name, found);
    found.users.set(userId, ofUser);
    ofUser.set(userCouponId, isPending);
    found.keepUntilMs = nowMs + keepQuotaDayMs;
  }

  /** Void unless it is pending. */
  release(group: string, day: string, userId: string, userCouponId: string): void {
    const ofUser = this.days.get(`${group} ${day}`)?.users.get(userId);
    if (ofUser?.get(userCouponId)) ofUser.delete(userCouponId);
  }

  forgetOld(nowMs: number): void {
    for (const [name, { keepUntilMs }] of this.days) if (keepUntilMs <= nowMs) this.days.delete(name);
  }
}
