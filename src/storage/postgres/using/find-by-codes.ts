import { codeKey, codeKeys } from "../../../domain/code.js";
import type { Choice } from "../../../domain/usage.js";
import type { Connection } from "../database.js";
import { maxItems } from "./usage-page.js";

interface UsedByCode {
  readonly userCouponId: string;
  /** null: it carries none. */
  readonly code: string | null;
  readonly exactMatch: boolean;
}

/** See UsageStore. */
export async function findByCodes(
  { sql }: Connection,
  userId: string,
  choices: readonly (Choice & { readonly code: string })[],
  requestId: string,
): Promise<string[][]> {
  const json = choices.map(({ code, lockVersion }) => ({ keys: codeKeys(code), lock_version: lockVersion }));
  // What one user holds of one coupon is little; many may hold one code. What is deleted is left out later, or the index of
  // all that is not deleted would serve, too. What this request has used it names for good: the code itself may be gone.
  const rows = await sql<{ ids: string[]; used: readonly UsedByCode[] | null }[]>`
    SELECT to_json(array(
      SELECT u.id
      FROM codes k
      CROSS JOIN LATERAL (
        SELECT * FROM user_coupons one
        WHERE one.user_id = ${userId} AND one.coupon_id = k.coupon_id OFFSET 0
      ) u
      JOIN coupons c ON c.id = k.coupon_id
      CROSS JOIN (SELECT coupon_clock() AS now OFFSET 0) clock
      WHERE k.code_key IN (a.keys ->> 0, a.keys ->> 1) AND u.code_id = k.id AND u.deleted_at IS NULL
      ORDER BY
        (u.lock_token = ${requestId} AND u.locked_until > clock.now) IS TRUE DESC,
        (u.lock_version = a.lock_version AND u.locked_until > clock.now) IS TRUE DESC,
        (usage_refusal(u, c, a.lock_version, clock.now) IS NULL) DESC,
        least(u.valid_until, c.expires_at), u.id
      LIMIT ${maxItems}
    )) AS ids, (
      SELECT json_agg(json_build_object('userCouponId', s.user_coupon_id,
        'code', coalesce(s.code, (SELECT u.code FROM user_coupons u WHERE u.id = s.user_coupon_id)),
        'exactMatch', (SELECT c.exact_codes FROM coupons c WHERE c.id = s.coupon_id)) ORDER BY s.item)
      FROM (SELECT * FROM usages WHERE request_id = ${requestId} OFFSET 0) s WHERE s.user_id = ${userId}
    ) AS used
    FROM json_to_recordset(${JSON.stringify(json)}::text::json) AS a (keys json, lock_version bigint)`;
  return rows.map(({ ids, used }, index) => {
    const keys = codeKeys(choices[index]!.code);
    const named =
      used?.filter(({ code, exactMatch }) => code !== null && keys.includes(codeKey(code, exactMatch))) ?? [];
    return [...new Set([...named.map(({ userCouponId }) => userCouponId), ...ids])];
  });
}
