import type { Sql } from "postgres";
import type { Coupon } from "../../../domain/coupon.js";
import { BoundedCache } from "../../../platform/bounded-cache.js";
import { type CouponRow, couponColumns, toCoupon } from "./coupon-row.js";

/** Coupons whose definition is remembered. */
const maxCoupons = 10_000;

/**
 * Remembers the definitions of coupons. A definition is named by its coupon's id and revision, so it is never out of date;
 * counters and `exhaustedAt` change without the revision, and must be read each time.
 */
export class CouponCache {
  private readonly coupons = new BoundedCache<Coupon>(maxCoupons);

  /** The coupons of the given revisions, or of a later one when there is one by now. */
  async get(
    sql: Sql,
    wanted: readonly { readonly id: string; readonly revision: number }[],
  ): Promise<Map<string, Coupon>> {
    const found = new Map<string, Coupon>();
    const missing = new Set<string>();
    for (const { id, revision } of wanted) {
      const known = this.coupons.get(id);
      if (known && known.revision === revision) found.set(id, known);
      else missing.add(id);
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
