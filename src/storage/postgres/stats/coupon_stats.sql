-- Counts what happened: of one coupon, of all of one type, or of all when both are null. How many user coupons are REVOKED
-- and EXPIRED follows from the counters of their coupons, as user_coupon_status() would say it of each, and from three
-- kinds of rows that counters do not know of, each found by an index of its own:
--   overdue   not used within the claim window, and not released yet: RELEASED already
--   due       their validity has run out, and they are not counted as expired yet
--   unspent   in exhausted coupons, those with a place that a cancelled use has left: neither USED nor REVOKED by the cap
-- Purged ones count as expired and never used. With `by_coupon` what is due is looked for among all that the one coupon has, for
-- when there is more that is due.
CREATE OR REPLACE FUNCTION coupon_stats(wanted_id uuid, wanted_type text, by_coupon boolean)
RETURNS TABLE (
  now timestamptz, coupon_count bigint, code_count bigint, issued_count bigint, deleted_count bigint, released_count bigint,
  used_count bigint, cancelled_count bigint, revoked_count bigint, expired_count bigint
)
LANGUAGE plpgsql VOLATILE
SET enable_seqscan = off
SET enable_hashjoin = off
SET enable_mergejoin = off
-- The plan takes longer to make than to run, and is the same for every scope.
SET plan_cache_mode = force_generic_plan
AS $$
#variable_conflict use_column
BEGIN
  RETURN QUERY
  -- Read within the statement: not before what it sees was committed.
  WITH clock AS MATERIALIZED (
    SELECT coupon_clock() AS at
  ),
  scope AS MATERIALIZED (
    SELECT c.* FROM coupons c WHERE c.id = wanted_id
    UNION ALL
    SELECT c.* FROM coupons c WHERE c.type = wanted_type
    UNION ALL
    SELECT c.* FROM coupons c WHERE wanted_id IS NULL AND wanted_type IS NULL
  ),
  counted AS (
    SELECT clock.at, count(c.id) AS coupons, sum(c.code_total) AS codes, sum(c.issued_total) AS issued,
      sum(c.deleted_total) AS deleted, sum(c.released_total) AS released, sum(c.used_count + c.cancelled_total) AS uses,
      sum(c.cancelled_total) AS cancelled,
      sum(CASE coupon_phase(c, clock.at)
        WHEN 'REVOKED' THEN held.n - CASE WHEN c.exhausted_at IS NULL THEN c.used_up_count ELSE c.placed_holder_count END
        WHEN 'EXHAUSTED' THEN held.n - c.placed_holder_count
      END) AS revoked,
      sum(CASE coupon_phase(c, clock.at)
        WHEN 'ENDED' THEN held.n - c.used_up_count
        WHEN 'RUNNING' THEN c.lapsed_count
      END) AS expired
    FROM clock LEFT JOIN scope c ON true
    LEFT JOIN LATERAL (SELECT c.issued_total - c.deleted_total - c.released_total AS n) held ON true
    GROUP BY clock.at
  ),
  -- Mostly few, whichever coupons they are of.
  overdue AS MATERIALIZED (
    SELECT u FROM user_coupons u
    WHERE NOT by_coupon AND u.claim_until <= (SELECT clock.at FROM clock) AND (wanted_id IS NULL OR u.coupon_id = wanted_id)
  ),
  due AS MATERIALIZED (
    SELECT u FROM user_coupons u
    WHERE NOT by_coupon AND u.lapse_at <= (SELECT clock.at FROM clock) AND (wanted_id IS NULL OR u.coupon_id = wanted_id)
  ),
  cancelled AS MATERIALIZED (
    SELECT DISTINCT s.user_coupon_id
    FROM scope c JOIN usages s ON s.coupon_id = c.id AND s.cancelled_at IS NOT NULL
    WHERE c.exhausted_at IS NOT NULL
  ),
  others AS (
    SELECT -1 AS n,
      CASE coupon_phase(x.c, clock.at) WHEN 'ENDED' THEN 'EXPIRED' WHEN 'RUNNING' THEN '' ELSE 'REVOKED' END AS status
    FROM clock CROSS JOIN overdue o
    CROSS JOIN LATERAL (SELECT c FROM coupons c WHERE c.id = (o.u).coupon_id OFFSET 0) x
    WHERE user_coupon_status(o.u, x.c, clock.at) = 'RELEASED'
      AND (wanted_type IS NULL OR (x.c).type = wanted_type)
    UNION ALL
    SELECT 1, user_coupon_status(d.u, x.c, clock.at)
    FROM clock CROSS JOIN due d
    CROSS JOIN LATERAL (SELECT c FROM coupons c WHERE c.id = (d.u).coupon_id OFFSET 0) x
    WHERE coupon_phase(x.c, clock.at) = 'RUNNING'
      AND (wanted_type IS NULL OR (x.c).type = wanted_type)
    UNION ALL
    -- Both kinds in one pass. The least of the two is in no index, so that no other one than the coupon's can be taken for it.
    SELECT CASE o.status WHEN 'RELEASED' THEN -1 ELSE 1 END, CASE
      WHEN o.status <> 'RELEASED' THEN o.status
      WHEN o.phase = 'ENDED' THEN 'EXPIRED'
      WHEN o.phase <> 'RUNNING' THEN 'REVOKED'
    END
    FROM (
      SELECT user_coupon_status(u, c, clock.at) AS status, coupon_phase(c, clock.at) AS phase, u.lapse_at <= clock.at AS is_due
      FROM clock CROSS JOIN coupons c JOIN user_coupons u ON u.coupon_id = c.id AND u.max_uses > 0
      WHERE by_coupon AND c.id = wanted_id AND least(u.claim_until, u.lapse_at) <= clock.at
      OFFSET 0
    ) o
    WHERE o.status = 'RELEASED' OR (o.is_due AND o.phase = 'RUNNING')
    UNION ALL
    SELECT 1, user_coupon_status(u, c, clock.at)
    FROM clock CROSS JOIN cancelled x JOIN user_coupons u ON u.id = x.user_coupon_id JOIN coupons c ON c.id = u.coupon_id
    WHERE u.deleted_at IS NULL AND u.use_count < u.place_count
  ),
  corrected AS (
    SELECT sum(o.n) FILTER (WHERE o.status = 'REVOKED') AS revoked, sum(o.n) FILTER (WHERE o.status = 'EXPIRED') AS expired
    FROM others o
  )
  SELECT n.at, n.coupons, coalesce(n.codes, 0)::bigint, coalesce(n.issued, 0)::bigint, coalesce(n.deleted, 0)::bigint,
    coalesce(n.released, 0)::bigint, coalesce(n.uses, 0)::bigint, coalesce(n.cancelled, 0)::bigint,
    (coalesce(n.revoked, 0) + coalesce(o.revoked, 0))::bigint, (coalesce(n.expired, 0) + coalesce(o.expired, 0))::bigint
  FROM counted n CROSS JOIN corrected o;
END
$$;
