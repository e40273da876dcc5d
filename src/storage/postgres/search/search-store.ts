import type { DeadlineMs } from "../../ports/page.js";
import type { CouponQuery, FoundCoupons, SearchCursor, SearchStore } from "../../ports/search.js";
import { type CouponRow, couponColumns, toCoupon } from "../coupons/coupon-row.js";
import type { Database } from "../database.js";

/** Coupons that are looked through, newest first, before an index is asked. */
export const windowSize = 1_000;
/** Coupons that are looked at for a page without words at most. */
export const maxLooked = 2_000;

/** A coupon's columns are null in the one row of an empty page. */
type FoundRow = CouponRow & { tier: number | null; lookedTo: string | null; correctedQuery: string; now: Date };

export class PostgresSearchStore implements SearchStore {
  private readonly options: { readonly windowSize: number; readonly maxLooked: number };

  constructor(
    private readonly database: Database,
    options: { readonly windowSize?: number; readonly maxLooked?: number } = {},
  ) {
    this.options = { windowSize, maxLooked, ...options };
  }

  search(
    query: CouponQuery,
    page: { size: number; after: SearchCursor | null },
    deadlineMs: DeadlineMs,
  ): Promise<FoundCoupons> {
    return this.database.reads.run(deadlineMs, async ({ sql }) => {
      const found = await sql<FoundRow[]>`
        SELECT f.tier, s.looked_to, s.corrected_query, coupon_clock() AS now, ${sql(couponColumns.map((name) => `c.${name}`))}
        FROM search_coupons(${query.words}, ${query.category || null}, ${query.type},
          ${query.discountKind}, ${query.withEnded}, ${page.size}, ${page.after?.tier ?? null},
          ${page.after?.couponId ?? null}, ${this.options.windowSize}, ${this.options.maxLooked}) s
        LEFT JOIN LATERAL unnest(s.coupon_ids, s.tiers) WITH ORDINALITY f (coupon_id, tier, ordinal) ON true
        -- One by one by its key, at every size of the table.
        LEFT JOIN LATERAL (SELECT * FROM coupons WHERE id = f.coupon_id OFFSET 0) c ON true
        ORDER BY f.ordinal`;
      const [first] = found;
      const rows = found.filter(({ tier }) => tier !== null).slice(0, page.size);
      const last = rows.at(-1);
      return {
        rows: rows.map(({ tier: _, lookedTo: _looked, correctedQuery: _corrected, now: _now, ...row }) =>
          toCoupon(row),
        ),
        now: first?.now ?? new Date(0),
        next: last && found.length > page.size ? { tier: last.tier ?? 0, couponId: last.id } : lookedTo(first),
        correctedQuery: first?.correctedQuery ?? "",
      };
    });
  }
}

/** Where a list without words goes on, that was looked for as long as may be. */
function lookedTo(row: FoundRow | undefined): SearchCursor | null {
  return row?.lookedTo ? { tier: 1, couponId: row.lookedTo } : null;
}
