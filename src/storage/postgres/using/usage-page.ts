import type { CouponType } from "../../../domain/coupon.js";
import type { Usage } from "../../../domain/usage.js";
import { groupBy } from "../../../platform/group-by.js";
import { greatestId } from "../../../platform/new-id.js";
import type { Page, Rows } from "../../ports/page.js";
import type { UsageFilter, UsageName } from "../../ports/usages.js";
import type { Connection } from "../database.js";
import type { usages } from "../schema.js";

/** Usages of one request: as many as an order may name user coupons. */
export const maxItems = 20;
/** Requests whose usages are read in one query. */
export const maxRequests = 64;
/** Usages that are looked at for one page of those that all filters leave. */
export const maxLooked = 5_000;

export type UsageRow = Omit<typeof usages.$inferSelect, "requestId" | "item">;
type Nullable<Row> = { readonly [Column in keyof Row]: Row[Column] | null };

export async function listUsages(
  { sql }: Connection,
  { userId, couponId, productId, orderId, showCancelled }: UsageFilter,
  { size, before }: Page,
): Promise<Rows<Usage>> {
  // Where there are no usages, there is one row of nulls.
  const found = await sql<(Nullable<UsageRow> & { lookedTo: string | null })[]>`
    SELECT f.*, l.looked_to
    FROM list_usages(${orderId || null}, ${userId || null}, ${productId || null}, ${couponId || null}, ${showCancelled},
      ${before}, ${size + 1}, ${maxLooked}) l
    LEFT JOIN LATERAL unnest(l.page) WITH ORDINALITY f ON true
    ORDER BY f.ordinality`;
  const rows = await usagesOf(
    sql,
    found.filter((row): row is typeof row & UsageRow => row.id !== null),
  );
  if (rows.length <= size) return { rows, next: found[0]?.lookedTo ?? null };
  const listed = rows.slice(0, size);
  return { rows: listed, next: listed.at(-1)!.id };
}

/** Of each request in order; one by one by its index, at every size of the table. */
export async function usagesOfRequests({ sql }: Connection, requestIds: readonly string[]): Promise<Usage[][]> {
  const rows = await sql<(UsageRow & { ordinal: number })[]>`
    SELECT asked.ordinal, s.*
    FROM (
      SELECT * FROM json_array_elements_text(${JSON.stringify(requestIds)}::text::json)
        WITH ORDINALITY AS asked (request_id, ordinal)
      LIMIT ${sql.unsafe(String(maxRequests))}
    ) asked
    CROSS JOIN LATERAL (
      SELECT * FROM usages s WHERE s.request_id = asked.request_id ORDER BY s.item LIMIT ${sql.unsafe(String(maxItems))}
    ) s
    ORDER BY asked.ordinal, s.item`;
  const usages = await usagesOf(sql, rows);
  const byOrdinal = groupBy(rows.keys(), (index) => rows[index]!.ordinal);
  return requestIds.map((_, position) => (byOrdinal.get(position + 1) ?? []).map((index) => usages[index]!));
}

/**
 * The newest of all together. Each one's are a range of usages_of_user_coupon: what else the user has used is not looked at.
 * The limit, always the same, stands in the statement: where it is a parameter, each call is planned anew.
 */
export async function usagesOfUserCoupons(
  { sql }: Connection,
  userId: string,
  userCouponIds: readonly string[],
  limit: number,
): Promise<Usage[]> {
  const most = sql.unsafe(String(limit));
  const rows = await sql<UsageRow[]>`
    SELECT s.* FROM json_array_elements_text(${JSON.stringify(userCouponIds)}::text::json) AS one (id)
    CROSS JOIN LATERAL (
      SELECT * FROM usages s
      WHERE (s.user_coupon_id, s.id) < (one.id::uuid, ${greatestId}::uuid) AND s.user_coupon_id >= one.id::uuid
      ORDER BY s.user_coupon_id DESC, s.id DESC LIMIT ${most}
    ) s
    WHERE s.user_id = ${userId}
    ORDER BY s.id DESC LIMIT ${most}`;
  return usagesOf(sql, rows);
}

/** Of each in order; one by one by their keys. */
export async function couponsOfUsages(
  { sql }: Connection,
  named: readonly UsageName[],
): Promise<(string | undefined)[]> {
  const items = named.map(({ userId, usageId, userCouponId }) => ({ userId, usageId, userCouponId }));
  const rows = await sql<{ couponId: string | null }[]>`
    SELECT coalesce(
      (SELECT coupon_id FROM usages WHERE id = a."usageId" AND user_id = a."userId"),
      (SELECT coupon_id FROM user_coupons WHERE id = a."userCouponId" AND user_id = a."userId")
    ) AS coupon_id
    FROM json_to_recordset(${JSON.stringify(items)}::text::json) AS a ("userId" text, "usageId" uuid, "userCouponId" uuid)`;
  return rows.map(({ couponId }) => couponId ?? undefined);
}

/** What a release did not store that knew nothing of it, as it is now. */
type Present = Pick<UsageRow, "id" | "code" | "couponName" | "couponType">;

/** Those that lack something are completed, one by one by their keys; of this release's own none does. */
export async function usagesOf(sql: Connection["sql"], rows: readonly UsageRow[]): Promise<Usage[]> {
  const bare = rows.filter(({ couponName }) => couponName === null);
  if (bare.length === 0) return rows.map((row) => toUsage(row));
  const items = bare.map(({ id, userCouponId, couponId }) => ({ id, userCouponId, couponId }));
  const found = await sql<Present[]>`
    SELECT a.id, (SELECT u.code FROM user_coupons u WHERE u.id = a."userCouponId") AS code,
      c.name AS coupon_name, c.type AS coupon_type
    FROM json_to_recordset(${JSON.stringify(items)}::text::json) AS a (id uuid, "userCouponId" uuid, "couponId" uuid)
    CROSS JOIN LATERAL (SELECT name, type FROM coupons WHERE id = a."couponId" OFFSET 0) c`;
  const present = new Map(found.map((one) => [one.id, one]));
  return rows.map((row) => toUsage(row, present.get(row.id)));
}

export function toUsage(row: UsageRow, present?: Present): Usage {
  const { id, userCouponId, couponId, userId, productId, orderId, currencyCode, usedAt, cancelledAt } = row;
  const { code, couponName, couponType } = present ?? row;
  const money = (minorUnits: number) => ({ currencyCode, minorUnits });
  return {
    ...{ id, userCouponId, couponId, userId, productId, orderId, usedAt, cancelledAt },
    ...{ code, couponName: couponName ?? "", couponType: couponType as CouponType | null },
    labels: row.labels,
    isComplete: row.couponName !== null,
    orderAmount: money(row.orderAmount),
    discountAmount: money(row.discountAmount),
    discountedBefore: row.discountedBefore,
  };
}
