import type { Sql } from "postgres";
import type { CouponQuery, SearchCursor, SearchStore } from "../../src/storage/ports/search.js";

export interface SearchedCoupon {
  readonly id: string;
  readonly name: string;
  readonly category: string;
  readonly description: string;
  readonly type: "FREE" | "STANDARD" | "MEGADEAL" | null;
  readonly discountKind: "PERCENTAGE" | "FIXED_AMOUNT";
  readonly expiresAt: Date;
  readonly deletedAt: Date | null;
  readonly isTypePool: boolean;
}

let coupons = 0;

/** Ids of one millisecond are in no order; these grow. */
function nextId(): string {
  coupons += 1;
  return `01900000-0000-7000-8000-${coupons.toString(16).padStart(12, "0")}`;
}

export function coupon(noon: Date, changed: Partial<SearchedCoupon>): SearchedCoupon {
  return {
    id: nextId(),
    name: "",
    category: "",
    description: "",
    type: null,
    discountKind: "PERCENTAGE",
    expiresAt: new Date(noon.getTime() + 3_600_000),
    deletedAt: null,
    isTypePool: false,
    ...changed,
  };
}

/** All of them in one statement. */
export async function insertSearched(sql: Sql, noon: Date, coupons: readonly SearchedCoupon[]): Promise<void> {
  if (coupons.length === 0) return;
  const startsAt = new Date(noon.getTime() - 86_400_000);
  await sql`INSERT INTO coupons ${sql(
    coupons.map((one) => ({
      id: one.id,
      name: one.name,
      category: one.category,
      description: one.description,
      type: one.type,
      percentage_basis_points: one.discountKind === "PERCENTAGE" ? 1_000 : null,
      fixed_amount: one.discountKind === "PERCENTAGE" ? null : 500,
      currency_code: one.discountKind === "PERCENTAGE" ? null : "USD",
      starts_at: startsAt,
      expires_at: one.expiresAt,
      deleted_at: one.deletedAt,
      is_pool: one.isTypePool,
      max_per_user: 1,
      stackable: false,
      created_at: startsAt,
      updated_at: startsAt,
    })),
  )}`;
}

export const everything: CouponQuery = { words: "", category: "", type: null, discountKind: null, withEnded: false };

/** All pages, and the words that were looked for instead on the first one. */
export async function searchAll(
  store: SearchStore,
  query: Partial<CouponQuery>,
  size = 100,
  betweenPages = async () => {},
): Promise<{ ids: string[]; correctedQuery: string }> {
  const ids: string[] = [];
  let after: SearchCursor | null = null;
  let correctedQuery: string | undefined;
  for (;;) {
    const page = await store.search({ ...everything, ...query }, { size, after }, Number.POSITIVE_INFINITY);
    correctedQuery ??= page.correctedQuery;
    ids.push(...page.rows.map(({ id }) => id));
    if (!page.next) return { ids, correctedQuery };
    after = page.next;
    await betweenPages();
  }
}
