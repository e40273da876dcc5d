import { BoundedCache } from "../bounded-cache.js";
import type { QuotaDays } from "./quota-days.js";

/** Coupons whose quota group is remembered, and ids that are known to be of none. */
const maxKnown = 100_000;
const maxUnknown = 10_000;
/**
 * How long an id is remembered to be of no coupon. Ids are made here, so whoever asks for one before it exists has
 * guessed it.
 */
const unknownMs = 1_000;

/** null: the coupon has no quota; undefined: there is no such coupon. */
export type QuotaGroupOf = (couponId: string) => Promise<string | null | undefined>;

export interface QuotaOptions {
  /** Throws StoreUnavailable. Absent: every coupon exists, and none has a quota. */
  readonly quotaGroupOf?: QuotaGroupOf;
  /** Absent: those of UTC. */
  readonly quotaDays?: QuotaDays;
}

/** The quota groups of coupons. A group never changes, and no coupon is ever removed, so what is known stays true. */
export class QuotaGroups {
  private readonly groups = new BoundedCache<{ readonly group: string | null }>(maxKnown);
  private readonly unknown = new BoundedCache<true>(maxUnknown, { ttl: unknownMs });

  constructor(private readonly find: QuotaGroupOf = async () => null) {}

  /** undefined: not known yet. */
  known(couponId: string): string | null | undefined {
    return this.groups.get(couponId)?.group;
  }

  /** Of a coupon that does not exist: none. Throws StoreUnavailable. */
  async of(couponId: string): Promise<string | null> {
    const known = this.known(couponId);
    return known === undefined ? ((await this.ask(couponId)) ?? null) : known;
  }

  /** For whoever asks for a coupon; undefined: there is no such coupon, or there was none a moment ago. Throws StoreUnavailable. */
  async ofAsked(couponId: string): Promise<string | null | undefined> {
    const known = this.known(couponId);
    if (known !== undefined || this.unknown.has(couponId)) return known;
    return await this.ask(couponId);
  }

  private async ask(couponId: string): Promise<string | null | undefined> {
    const group = await this.find(couponId);
    if (group === undefined) this.unknown.set(couponId, true);
    else this.groups.set(couponId, { group });
    return group;
  }
}
