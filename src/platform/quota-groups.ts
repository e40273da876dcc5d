import type { QuotaDays } from "./quota-days.js";

/** Coupons whose quota group is remembered. */
const maxKnown = 100_000;

/** null: the coupon has no quota; undefined: there is no such coupon. */
export type QuotaGroupOf = (couponId: string) => Promise<string | null | undefined>;

export interface QuotaOptions {
  /** Throws StoreUnavailable. Absent: no coupon has a quota. */
  readonly quotaGroupOf?: QuotaGroupOf;
  /** Absent: those of UTC. */
  readonly quotaDays?: QuotaDays;
}

/** The quota groups of coupons. A group never changes, so what is known stays true. */
export class QuotaGroups {
  private readonly groups = new Map<string, string | null>();

  constructor(private readonly find: QuotaGroupOf = async () => null) {}

  /** undefined: not known yet. */
  known(couponId: string): string | null | undefined {
    return this.groups.get(couponId);
  }

  /** Throws StoreUnavailable. */
  async of(couponId: string): Promise<string | null> {
    const known = this.groups.get(couponId);
    if (known !== undefined) return known;
    const found = await this.find(couponId);
    // What does not exist may be created later.
    if (found === undefined) return null;
    for (const oldest of this.groups.keys()) {
      if (this.groups.size < maxKnown) break;
      this.groups.delete(oldest);
    }
    this.groups.set(couponId, found);
    return found;
  }
}
