import type { Code } from "../../../domain/code.js";
import type { UserCoupon } from "../../../domain/user-coupon.js";
import { groupBy } from "../../../platform/group-by.js";
import type { ListedCode } from "../../ports/codes.js";
import type { DeadlineMs, Page, Rows } from "../../ports/page.js";
import type { Database } from "../database.js";
import { userCouponColumns } from "../user-coupons/user-coupon-store.js";

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
        k.holder_count >= k.max_holders AND code_is_used_up(k.id, c, ${maxLooked}) AS used_up
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
      SELECT u.code_id, ${userCouponColumns(sql)} FROM holders_of_codes(${held}::text[]::bigint[], ${maxHolders}) u`,
  );
  const byCode = groupBy(holders, (holder) => holder.codeId);
  return {
    rows: codes.map((code) => ({ code, holders: byCode.get(code.id) ?? [] })),
    next: found.length > size ? String(codes.at(-1)!.id) : null,
  };
}
