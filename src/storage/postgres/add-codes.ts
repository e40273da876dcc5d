import { eq, sql } from "drizzle-orm";
import type { NewCode } from "../../domain/code.js";
import type { Tx } from "./requests.js";
import { readClock } from "./requests.js";
import { coupons } from "./schema.js";

/** What was inserted, and the places in the given list of the codes that exist already. */
export interface Inserted {
  readonly codeCount: number;
  readonly placeCount: number;
  readonly taken: readonly number[];
}

/** The coupon was deleted meanwhile: what was inserted is rolled back. */
export class BookDeleted extends Error {}

interface InsertedRow extends Record<string, unknown> {
  readonly codes: string;
  readonly places: string;
  readonly taken: number[] | null;
}

/**
 * Inserts codes in the order of their keys, so that two who insert the same ones wait for each other in one direction only;
 * ids are in the order of the list. Of those that do not exist yet at most `most` are inserted.
 */
export async function insertCodes(
  tx: Tx,
  couponId: string,
  codes: readonly NewCode[],
  most = codes.length,
): Promise<Inserted> {
  const rows = codes.map(({ terms, ...code }) => ({ ...code, ...terms }));
  // When there are more than are wanted, those that exist must not use up what is wanted.
  const chosen =
    codes.length > most
      ? sql`WHERE NOT EXISTS (SELECT FROM codes k WHERE k.code_key = w.key) ORDER BY w.place LIMIT ${most}`
      : sql``;
  const [row] = await tx.execute<InsertedRow>(sql`
    WITH wanted AS MATERIALIZED (
      SELECT w.*, nextval('codes_id_seq') AS id
      FROM (
        SELECT * FROM ROWS FROM (
          json_to_recordset(${JSON.stringify(rows)}::text::json) AS (code text, key text, "pickKey" bigint,
            discount jsonb, "expiresAt" timestamptz, "maxUses" smallint, "maxHolders" int)
        ) WITH ORDINALITY AS w (code, key, pick_key, discount, expires_at, max_uses, max_holders, place)
        ORDER BY place
      ) w
    ),
    added AS (
      INSERT INTO codes (id, coupon_id, code, code_key, pick_key, discount, expires_at, max_uses, max_holders, created_at)
      OVERRIDING SYSTEM VALUE
      SELECT w.id, ${couponId}::uuid, w.code, w.key, w.pick_key, w.discount, w.expires_at, w.max_uses, w.max_holders, clock.now
      FROM (SELECT * FROM wanted w ${chosen}) w CROSS JOIN (SELECT coupon_clock() AS now OFFSET 0) clock
      ORDER BY w.key COLLATE "C"
      ON CONFLICT (code_key) DO NOTHING
      RETURNING code_key, max_holders
    )
    SELECT count(*) AS codes, coalesce(sum(max_holders), 0) AS places, (
      SELECT json_agg(w.place - 1 ORDER BY w.place) FROM wanted w WHERE w.key NOT IN (SELECT code_key FROM added)
    ) AS taken
    FROM added`);
  const { codes: codeCount, places, taken } = row as InsertedRow;
  return { codeCount: Number(codeCount), placeCount: Number(places), taken: taken ?? [] };
}

/** Locks the coupon and puts what was inserted into its stock. Throws BookDeleted. */
export async function stockCodes(tx: Tx, couponId: string, inserted: Omit<Inserted, "taken">): Promise<Date> {
  const [book] = await tx
    .select({ deletedAt: coupons.deletedAt })
    .from(coupons)
    .where(eq(coupons.id, couponId))
    .for("no key update");
  if (!book || book.deletedAt) throw new BookDeleted();
  const now = await readClock(tx);
  if (inserted.codeCount > 0) {
    await tx
      .update(coupons)
      .set({
        quantity: sql`${coupons.quantity} + ${inserted.placeCount}`,
        codeTotal: sql`${coupons.codeTotal} + ${inserted.codeCount}`,
        revision: sql`${coupons.revision} + 1`,
        updatedAt: now,
      })
      .where(eq(coupons.id, couponId));
  }
  return now;
}
