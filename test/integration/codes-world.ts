import { randomUUID } from "node:crypto";
import type { Sql } from "postgres";
import { codeKey } from "../../src/domain/code.js";

export interface CodeFacts {
  readonly code?: string;
  readonly maxHolders?: number;
  readonly maxUses?: number | null;
  readonly expiresAt?: Date | null;
}

/** Adds codes to a code book, and to its stock; answers their ids. */
export async function insertCodes(sql: Sql, couponId: string, codes: readonly CodeFacts[]): Promise<number[]> {
  const ids: number[] = [];
  for (const [index, facts] of codes.entries()) {
    const { code = randomUUID(), maxHolders = 1, maxUses = null, expiresAt = null } = facts;
    const [row] = await sql`
      INSERT INTO codes (coupon_id, code, code_key, expires_at, max_uses, max_holders, pick_key, created_at)
      VALUES (${couponId}, ${code}, ${codeKey(code, false)}, ${expiresAt}, ${maxUses}, ${maxHolders}, ${index}, coupon_clock())
      RETURNING id`;
    ids.push(Number(row?.id));
    await sql`
      UPDATE coupons SET is_code_book = true, quantity = quantity + ${maxHolders}, code_total = code_total + 1
      WHERE id = ${couponId}`;
  }
  return ids;
}

/** Takes the free seats of codes that have expired out of their coupons' stock. */
export async function expireCodes(sql: Sql): Promise<void> {
  await sql`
    WITH expired AS (
      UPDATE codes SET retired_at = coupon_clock() WHERE retired_at IS NULL AND expires_at <= coupon_clock()
      RETURNING coupon_id, max_holders - holder_count AS seats
    )
    UPDATE coupons c SET quantity = c.quantity - e.seats, revision = c.revision + 1
    FROM (SELECT coupon_id, sum(seats) AS seats FROM expired GROUP BY coupon_id) e WHERE c.id = e.coupon_id`;
}
