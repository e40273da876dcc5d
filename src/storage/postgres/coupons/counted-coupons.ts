import type { Sql } from "postgres";
import type { Coupon } from "../../../domain/coupon.js";
import { CouponCache, type DefinitionName, isSameDefinition } from "./coupon-cache.js";

/** What changes without a new revision. */
export type Counts = Pick<Coupon, "issuedCount" | "usedCount" | "placeCount" | "exhaustedAt">;

/** What a query has just read of a coupon. */
export interface CouponVersion extends DefinitionName {
  readonly counts: Counts;
}

/**
 * Remembered definitions with the counts that were just read. As long as definition and counts stay the same, so does the
 * object, and what was made of it can be used again.
 */
export class CountedCoupons {
  private readonly definitions = new CouponCache();
  /** By the definition, and gone when that is forgotten. */
  private readonly latest = new WeakMap<Coupon, Coupon>();

  /** The coupons of these versions, in order; each as it is now when it was edited meanwhile. */
  async get(sql: Sql, versions: readonly CouponVersion[]): Promise<Coupon[]> {
    const definitions = await this.definitions.get(sql, versions);
    return versions.map((version) => {
      const definition = definitions.get(version.id) as Coupon;
      return isSameDefinition(definition, version) ? this.counted(definition, version.counts) : definition;
    });
  }

  private counted(definition: Coupon, counts: Counts): Coupon {
    const latest = this.latest.get(definition) ?? definition;
    if (sameCounts(latest, counts)) return latest;
    const coupon = { ...definition, ...counts };
    this.latest.set(definition, coupon);
    return coupon;
  }
}

function sameCounts(a: Counts, b: Counts): boolean {
  return (
    a.issuedCount === b.issuedCount &&
    a.usedCount === b.usedCount &&
    a.placeCount === b.placeCount &&
    a.exhaustedAt?.getTime() === b.exhaustedAt?.getTime()
  );
}
