import type { Sql } from "postgres";
import type { Coupon } from "../../../domain/coupon.js";
import { BoundedCache } from "../../../platform/bounded-cache.js";
import { type CouponRow, couponColumns, toCoupon } from "./coupon-row.js";

/** Coupons whose definition is remembered. */
const maxCoupons = 10_000;

/**
 * Names a definition. A standby that is promoted may lack the last edit, and then the next one gets the same revision again: so
 * the time of the edit is a part of the name, to the millisecond, as the driver reads it. Where seats of codes are given back or purged
 * the revision grows and the time stays; of such changes, no more than the quantity differs.
 */
export interface DefinitionName {
  readonly id: string;
  readonly revision: number;
  readonly updatedAt: Date;
}

export function isSameDefinition(a: DefinitionName, b: DefinitionName): boolean {
  return a.id === b.id && a.revision === b.revision && a.updatedAt.getTime() === b.updatedAt.getTime();
}

/**
 * Remembers the definitions of coupons. What a definition is remembered by is read each time, so it is never out of date;
 * counters and `exhaustedAt` change without a new definition, and must be read each time, too.
 */
export class CouponCache {
  private readonly coupons = new BoundedCache<Coupon>(maxCoupons);

  /** The coupons with the given definitions, or with a later one when there is one by now. */
  async get(sql: Sql, wanted: readonly DefinitionName[]): Promise<Map<string, Coupon>> {
    const found = new Map<string, Coupon>();
    const missing = new Set<string>();
    for (const name of wanted) {
      const known = this.coupons.get(name.id);
      if (known && isSameDefinition(known, name)) found.set(name.id, known);
      else missing.add(name.id);
    }
    if (missing.size > 0) {
      for (const row of await sql<
        CouponRow[]
      >`SELECT ${sql(couponColumns)} FROM coupons WHERE id = ANY (${[...missing]}::uuid[])`) {
        const coupon = toCoupon(row);
        found.set(coupon.id, coupon);
        this.coupons.set(coupon.id, coupon);
      }
    }
    return found;
  }
}
