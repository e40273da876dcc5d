import type { Sql } from "postgres";
import { codeKey, pickKey } from "../../src/domain/code.js";
import type { Discount } from "../../src/domain/coupon.js";

export interface CodeFacts {
  readonly code: string;
  readonly exactMatch?: boolean;
  readonly discount?: Discount;
  readonly expiresAt?: Date;
  readonly maxUses?: number;
  readonly maxHolders?: number;
  /** Whether the coupon is the pool of its type. */
  readonly inTypePool?: boolean;
}

/** Adds codes to a code book, past every rule of the program, for tests of what happens to codes once they are there. */
export async function addCodes(sql: Sql, couponId: string, facts: readonly CodeFacts[]): Promise<void> {
  const rows = facts.map((one) => ({
    coupon_id: couponId,
    code: one.code,
    code_key: codeKey(one.code, one.exactMatch ?? false),
    expires_at: one.expiresAt ?? null,
    max_uses: one.maxUses ?? null,
    max_holders: one.maxHolders ?? 1,
    pick_key: pickKey(Math.random(), (one.inTypePool && one.expiresAt) || null),
    created_at: new Date(),
  }));
  const seats = rows.reduce((sum, row) => sum + row.max_holders, 0);
  await sql.begin(async (tx) => {
    await tx`INSERT INTO codes ${tx(rows)}`;
    for (const { code, discount } of facts) {
      if (discount) await tx`UPDATE codes SET discount = ${JSON.stringify(discount)}::text::jsonb WHERE code = ${code}`;
    }
    await tx`
      UPDATE coupons SET quantity = quantity + ${seats}, code_total = code_total + ${rows.length}, revision = revision + 1
      WHERE id = ${couponId}`;
  });
}
