import { eq, sql } from "drizzle-orm";
import type { NewCode } from "../../../domain/code.js";
import { jsonInSlices } from "../../../platform/json-slices.js";
import type { Tx } from "../requests.js";
import { readClock } from "../requests.js";
import { coupons } from "../schema.js";

/** What was inserted, and the indexes in the given list of the codes that exist already. */
export interface Inserted {
  readonly codeCount: number;
  readonly seatCount: number;
  readonly taken: readonly number[];
}

/** The coupon was deleted meanwhile: what was inserted is rolled back. */
export class BookDeleted extends Error {}

interface InsertedRow extends Record<string, unknown> {
  readonly codeCount: number;
  readonly seatCount: number;
  readonly taken: number[] | null;
}

/** Codes as `insert_codes` and `generate_codes` take them. */
export function listOf(codes: readonly NewCode[]): Promise<string> {
  return jsonInSlices(codes, ({ code, key, pickKey, terms }) => ({ code, key, pickKey, ...terms }));
}

/** Inserts those that do not exist yet, as what came by this upload. */
export async function insertCodes(
  tx: Tx,
  couponId: string,
  uploadId: string,
  codes: readonly NewCode[],
): Promise<Inserted> {
  const list = await listOf(codes);
  const [row] = await tx.execute<InsertedRow>(
    sql`SELECT * FROM insert_codes(${couponId}, ${uploadId}, ${list}::text::json, ${codes.length})`,
  );
  const { codeCount, seatCount, taken } = row as InsertedRow;
  return { codeCount, seatCount, taken: taken ?? [] };
}

/** Locks the coupon and puts what was inserted into its stock. Throws BookDeleted. */
export async function stockCodes(tx: Tx, couponId: string, { codeCount, seatCount }: Inserted): Promise<Date> {
  const [book] = await tx
    .select({ deletedAt: coupons.deletedAt })
    .from(coupons)
    .where(eq(coupons.id, couponId))
    .for("no key update");
  if (!book || book.deletedAt) throw new BookDeleted();
  const now = await readClock(tx);
  await tx
    .update(coupons)
    .set({
      quantity: sql`${coupons.quantity} + ${seatCount}`,
      codeTotal: sql`${coupons.codeTotal} + ${codeCount}`,
      revision: sql`${coupons.revision} + 1`,
      updatedAt: now,
    })
    .where(eq(coupons.id, couponId));
  return now;
}
