import type { Sql } from "postgres";
import type { Stats } from "../../src/storage/ports/stats.js";

/**
 * What GetStats must say of one coupon, counted from the rows themselves, with the status that each has now. Rows that were
 * purged are known from the events only; they count as user coupons whose validity is over and that were never used.
 */
export async function countedStats(sql: Sql, couponId: string): Promise<Stats> {
  const [row] = await sql<Stats[]>`
    WITH coupon AS MATERIALIZED (
      SELECT c, coupon_clock() AS at FROM coupons c WHERE c.id = ${couponId}
    ),
    purged AS (
      SELECT coalesce(sum((e.detail ->> 'expired')::int), 0)::int AS expired,
        coalesce(sum((e.detail ->> 'deleted')::int), 0)::int AS deleted,
        coalesce(sum((e.detail ->> 'released')::int), 0)::int AS released,
        coalesce(sum(coalesce(e.detail ->> 'count', e.detail ->> 'codeCount')::int), 0)::int AS codes
      FROM events e WHERE e.coupon_id = ${couponId} AND e.kind IN ('USER_COUPONS_PURGED', 'CODES_PURGED', 'CODES_DELETED')
    ),
    held AS (
      SELECT user_coupon_status(u, o.c, o.at) AS status, u.deleted_at IS NOT NULL AS deleted, u.released_at IS NOT NULL AS released
      FROM coupon o CROSS JOIN user_coupons u WHERE u.coupon_id = ${couponId}
    ),
    of_purged AS (
      SELECT user_coupon_status(
        jsonb_populate_record(NULL::user_coupons, '{"max_uses": 1, "use_count": 0, "place_count": 0, "valid_until": "-infinity"}'),
        o.c, o.at
      ) AS status FROM coupon o
    )
    SELECT 1 AS "couponCount",
      (SELECT count(*)::int FROM codes k WHERE k.coupon_id = ${couponId}) + p.codes AS "codeCount",
      count(h.status)::int + p.expired + p.deleted + p.released AS "issuedCount",
      (count(*) FILTER (WHERE h.deleted AND NOT h.released))::int + p.deleted AS "deletedCount",
      (count(*) FILTER (WHERE h.released))::int + p.released AS "releasedCount",
      (SELECT count(*)::int FROM usages s WHERE s.coupon_id = ${couponId}) AS "usedCount",
      (SELECT count(*)::int FROM usages s WHERE s.coupon_id = ${couponId} AND s.cancelled_at IS NOT NULL) AS "cancelledCount",
      (count(*) FILTER (WHERE NOT h.deleted AND h.status = 'REVOKED'))::int
        + CASE WHEN g.status = 'REVOKED' THEN p.expired ELSE 0 END AS "revokedCount",
      (count(*) FILTER (WHERE NOT h.deleted AND h.status = 'EXPIRED'))::int
        + CASE WHEN g.status = 'EXPIRED' THEN p.expired ELSE 0 END AS "expiredCount"
    FROM purged p CROSS JOIN of_purged g LEFT JOIN held h ON true
    GROUP BY p.expired, p.deleted, p.released, p.codes, g.status`;
  if (!row) throw new Error(`no coupon ${couponId}`);
  return { ...row };
}

/**
 * Coupons of whose counters one differs from what it counts, and user coupons and code books whose own facts contradict
 * each other: there must be none.
 */
export async function miscounted(sql: Sql): Promise<unknown[]> {
  const coupons = await sql`
    SELECT c.id, counted.*, stored.*
    FROM coupons c
    CROSS JOIN LATERAL (
      SELECT coalesce(sum((e.detail ->> 'expired')::int), 0) AS expired, coalesce(sum((e.detail ->> 'deleted')::int), 0) AS deleted,
        coalesce(sum((e.detail ->> 'released')::int), 0) AS released
      FROM events e WHERE e.coupon_id = c.id AND e.kind = 'USER_COUPONS_PURGED'
    ) purged
    CROSS JOIN LATERAL (
      SELECT count(*) + purged.expired + purged.deleted + purged.released AS issued,
        count(*) FILTER (WHERE u.deleted_at IS NOT NULL AND u.released_at IS NULL) + purged.deleted AS deleted,
        count(*) FILTER (WHERE u.released_at IS NOT NULL) + purged.released AS released,
        count(*) FILTER (WHERE held AND u.use_count >= u.max_uses) AS used_up,
        count(*) FILTER (WHERE held AND u.place_count > 0) AS placed,
        count(*) FILTER (WHERE held AND u.lapsed) + purged.expired AS lapsed,
        purged.expired AS purged,
        (SELECT count(*) FROM usages s WHERE s.coupon_id = c.id AND s.cancelled_at IS NOT NULL) AS cancelled
      FROM (SELECT u.*, u.deleted_at IS NULL AND u.released_at IS NULL AS held FROM user_coupons u WHERE u.coupon_id = c.id) u
    ) counted
    CROSS JOIN LATERAL (
      SELECT c.issued_total, c.deleted_total, c.released_total, c.used_up_count, c.placed_holder_count, c.lapsed_count,
        c.purged_total, c.cancelled_total
    ) stored
    WHERE (counted.*) IS DISTINCT FROM (stored.*)`;
  const userCoupons = await sql`
    SELECT u.* FROM user_coupons u
    CROSS JOIN LATERAL (SELECT u.deleted_at IS NULL AND u.released_at IS NULL AS held) facts
    WHERE u.lapse_at IS DISTINCT FROM CASE WHEN held AND NOT u.lapsed AND u.use_count < u.max_uses THEN u.valid_until END
      OR u.lapsed AND NOT held
      OR (u.gone_at IS NOT NULL) <> ((NOT held OR u.lapsed) AND u.place_count = 0
        AND NOT EXISTS (SELECT FROM usages s WHERE s.user_coupon_id = u.id))`;
  // What is free of a code book is what its codes have free, a code has seats for those who hold it, and none is passed over.
  const codeBooks = await sql`
    SELECT c.id, c.quantity - c.issued_count AS stock, free.seats, free.lacking, free.passed_over
    FROM coupons c CROSS JOIN LATERAL (
      SELECT coalesce(sum(k.max_holders - k.holder_count) FILTER (WHERE k.retired_at IS NULL), 0) AS seats,
        count(*) FILTER (WHERE k.holder_count < (SELECT count(*) FROM user_coupons u WHERE u.code_id = k.id
          AND u.deleted_at IS NULL AND u.released_at IS NULL)) AS lacking,
        count(*) FILTER (WHERE k.holder_count < k.max_holders AND k.retired_at IS NULL AND k.pick_key < c.free_from
          AND (k.expires_at IS NULL OR k.expires_at > coupon_clock())) AS passed_over
      FROM codes k WHERE k.coupon_id = c.id
    ) free
    WHERE c.is_code_book AND (c.quantity - c.issued_count <> free.seats OR free.lacking > 0 OR free.passed_over > 0)`;
  return [...coupons, ...userCoupons, ...codeBooks];
}
