import { randomUUID } from "node:crypto";
import type { Sql } from "postgres";
import { expect } from "vitest";
import { insertCoupon, openCoupon } from "./clocked-database.js";

/** For a list of all its codes. */
export const allCodesOf = (couponId: string) => ({ couponId, statuses: null, endsAt: new Date(), now: new Date() });

/** An empty code book that is issued for an hour. */
export async function insertBook(
  sql: Sql,
  now: Date,
  facts: { readonly isCodeBook?: boolean; readonly exactCodes?: boolean; readonly deletedAt?: Date } = {},
): Promise<string> {
  const { isCodeBook = true, exactCodes = false, deletedAt = null } = facts;
  const id = await insertCoupon(sql, { ...openCoupon(now, { id: randomUUID(), quantity: 0, deletedAt }) });
  await sql`UPDATE coupons SET is_code_book = ${isCodeBook}, exact_codes = ${exactCodes}, max_per_user = 100 WHERE id = ${id}`;
  return id;
}

export interface StoredBook {
  readonly quantity: number;
  readonly codeTotal: number;
  readonly revision: number;
  readonly issuedCount: number;
}

export async function readBook(sql: Sql, couponId: string): Promise<StoredBook> {
  const [row] = await sql<StoredBook[]>`
    SELECT quantity::int, code_total::int AS "codeTotal", revision::int, issued_count::int AS "issuedCount"
    FROM coupons WHERE id = ${couponId}`;
  return row as StoredBook;
}

/** Kind and detail of a coupon's events, without those of its user coupons; of a coupon's creation no detail. */
export async function storedEvents(sql: Sql, couponId: string): Promise<[string, unknown][]> {
  const rows = await sql<{ kind: string; detail: unknown }[]>`
    SELECT kind, detail FROM events WHERE coupon_id = ${couponId} AND kind NOT LIKE 'USER_COUPON%' ORDER BY seq`;
  return rows.map(({ kind, detail }) => [kind, kind === "COUPON_CREATED" ? null : detail]);
}

/** What every code book keeps: its stock is the free seats of its codes that are not expired. */
export async function expectStocked(sql: Sql): Promise<void> {
  const wrong = await sql`
    SELECT c.id, c.quantity - c.issued_count AS stock, k.seats, c.code_total, k.codes
    FROM coupons c CROSS JOIN LATERAL (
      SELECT count(*) + (
          SELECT coalesce(sum((e.detail ->> 'codeCount')::int), 0) FROM events e WHERE e.coupon_id = c.id AND e.kind = 'CODES_DELETED'
        ) AS codes,
        coalesce(sum(k.max_holders - k.holder_count) FILTER (WHERE k.retired_at IS NULL), 0) AS seats
      FROM codes k WHERE k.coupon_id = c.id
    ) k
    WHERE c.is_code_book AND (c.quantity - c.issued_count <> k.seats OR c.code_total <> k.codes)`;
  expect(wrong).toHaveLength(0);
}
