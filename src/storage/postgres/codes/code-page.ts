import type { Code, CodeStatus } from "../../../domain/code.js";
import type { UserCoupon } from "../../../domain/user-coupon.js";
import { groupBy } from "../../../platform/group-by.js";
import type { CodeFilter, ListedCode } from "../../ports/codes.js";
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
/** Codes that are looked at for one page of those with some statuses only: as many as the largest page has. */
export const maxCodesLooked = 1_000;

/** Of those who hold a code: those whose user coupons were neither deleted nor released. */
export async function listCodes(
  { reads }: Database,
  { couponId, statuses, endsAt, now }: CodeFilter,
  { size, before }: Page,
  deadlineMs: DeadlineMs,
): Promise<Rows<ListedCode>> {
  const rows = await reads.run(
    deadlineMs,
    ({ sql }) => sql<FoundCode[]>`
      SELECT * FROM list_codes(${couponId}, ${before ?? "0"}, ${statuses as CodeStatus[] | null}::text[],
        ${endsAt}, ${now}, ${size + 1}, ${maxCodesLooked}, ${maxLooked})`,
  );
  const found = rows.filter((row) => row.id !== null);
  const codes: readonly Code[] = found.slice(0, size);
  const held = codes.filter((code) => code.holderCount > 0).map((code) => String(code.id));
  const holders = await reads.run(
    deadlineMs,
    ({ sql }) => sql<(UserCoupon & { codeId: number })[]>`
      SELECT u.code_id, ${userCouponColumns(sql)} FROM holders_of_codes(${held}::text[]::bigint[], ${maxHolders}) u`,
  );
  const byCode = groupBy(holders, (holder) => holder.codeId);
  return {
    rows: codes.map((code) => ({ code, holders: byCode.get(code.id) ?? [] })),
    next: found.length > size ? String(codes.at(-1)!.id) : lookedTo(rows),
  };
}

/** After those that were found there may be one row more, of a page that could not be filled. */
type FoundCode = (Code & { readonly lookedTo: null }) | { readonly id: null; readonly lookedTo: number };

function lookedTo(rows: readonly FoundCode[]): string | null {
  const last = rows.at(-1);
  return last && last.lookedTo !== null ? String(last.lookedTo) : null;
}
