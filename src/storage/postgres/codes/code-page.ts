import type { Code } from "../../../domain/code.js";
import type { UserCoupon } from "../../../domain/user-coupon.js";
import { groupBy } from "../../../platform/group-by.js";
import type { ListedCode } from "../../ports/codes.js";
import type { DeadlineMs, Page, Rows } from "../../ports/page.js";
import type { Database } from "../database.js";
import { userCouponColumns } from "../user-coupons/user-coupon-store.js";

const leastId = "00000000-0000-0000-0000-000000000000";
const greatestId = "ffffffff-ffff-ffff-ffff-ffffffffffff";
/** Holders that are shown of a code. */
const maxHolders = 10;
/**
 * Holders of a code, the newest first, among whom one is looked for who has not used it up. A code that many more may hold
 * counts as used up only when nothing of its coupon is left to use: there is no counter for each code.
 */
export const maxLooked = 100;

/** Of those who hold a code: those whose user coupons were neither deleted nor released. */
export async function listCodes(
  { reads }: Database,
  couponId: string,
  { size, before }: Page,
  deadlineMs: DeadlineMs,
): Promise<Rows<ListedCode>> {
  // Whether all have used it matters only for codes that nobody else can get.
  const found = await reads.run(
    deadlineMs,
    ({ sql }) => sql<Code[]>`
      SELECT k.id, k.coupon_id, k.code, k.discount, k.expires_at, k.max_uses, k.max_holders, k.holder_count, k.created_at,
        CASE WHEN k.holder_count < k.max_holders THEN false ELSE (
          SELECT count(*) > 0 AND bool_and(h.status = 'USED') AND (
            count(*) <= ${maxLooked} OR c.used_up_count = c.issued_total - c.deleted_total - c.released_total
          )
          FROM (
            SELECT user_coupon_status(u, c, coupon_clock()) AS status FROM user_coupons u
            -- A range of user_coupons_by_code, in its order: see below.
            WHERE (u.code_id, u.id) < (k.id, ${greatestId}) AND u.code_id >= k.id
              AND u.deleted_at IS NULL AND u.released_at IS NULL
            ORDER BY u.code_id DESC, u.id DESC LIMIT ${maxLooked + 1}
          ) h
        ) END AS used_up
      FROM (
        -- A range of codes_by_coupon; in the order of the id alone the planner may go through the codes of all coupons.
        SELECT * FROM codes k WHERE (k.coupon_id, k.id) > (${couponId}, ${before ?? "0"}) AND k.coupon_id <= ${couponId}
        ORDER BY k.coupon_id, k.id LIMIT ${size + 1}
      ) k
      JOIN coupons c ON c.id = k.coupon_id
      ORDER BY k.id`,
  );
  const codes = found.slice(0, size);
  const held = codes.filter((code) => code.holderCount > 0).map((code) => String(code.id));
  const holders = await reads.run(
    deadlineMs,
    ({ sql }) => sql<(UserCoupon & { codeId: number })[]>`
      SELECT one.* FROM unnest(${held}::text[]::bigint[]) AS k (id) CROSS JOIN LATERAL (
        SELECT u.code_id, ${userCouponColumns(sql)} FROM user_coupons u
        WHERE (u.code_id, u.id) > (k.id, ${leastId}) AND u.code_id <= k.id AND u.deleted_at IS NULL AND u.released_at IS NULL
        ORDER BY u.code_id, u.id LIMIT ${maxHolders}
      ) one`,
  );
  const byCode = groupBy(holders, (holder) => holder.codeId);
  return {
    rows: codes.map((code) => ({ code, holders: byCode.get(code.id) ?? [] })),
    next: found.length > size ? String(codes.at(-1)!.id) : null,
  };
}
