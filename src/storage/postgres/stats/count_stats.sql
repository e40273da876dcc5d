-- Counts the same as coupon_stats(), of all and of each type at once, and keeps it in `stats_snapshots`: for when there is so
-- much to read that no caller can wait for it. One at a time, over all replicas. Whoever waits for that (`wait`) takes what the
-- other one has kept, and does not count again. Answers whether it has counted.
CREATE OR REPLACE FUNCTION count_stats(wait boolean) RETURNS boolean
LANGUAGE plpgsql VOLATILE
SET plan_cache_mode = force_custom_plan
SET work_mem = '32MB'
AS $$
DECLARE
  lock_key CONSTANT bigint := 7106118004;
  began timestamptz := clock_timestamp();
  at timestamptz;
BEGIN
  IF NOT pg_try_advisory_xact_lock(lock_key) THEN
    IF NOT wait THEN RETURN false; END IF;
    PERFORM pg_advisory_xact_lock(lock_key);
    IF EXISTS (SELECT FROM stats_snapshots) THEN RETURN false; END IF;
  END IF;
  at := coupon_clock();

  WITH running AS MATERIALIZED (
    SELECT c.*, coupon_phase(c, at) AS phase, c.issued_total - c.deleted_total - c.released_total AS held FROM coupons c
  ),
  -- What has a claim window that is over may be RELEASED: looked at one by one. Of the others it is enough to know how many.
  due AS (
    SELECT u.coupon_id, count(*) AS n FROM user_coupons u
    WHERE u.lapse_at <= at AND (u.claim_until <= at) IS NOT TRUE
    GROUP BY u.coupon_id
  ),
  overdue AS (
    SELECT u.coupon_id, count(*) FILTER (WHERE user_coupon_status(u, c, at) = 'RELEASED') AS released,
      count(*) FILTER (WHERE user_coupon_status(u, c, at) <> 'RELEASED' AND u.lapse_at <= at) AS due
    FROM user_coupons u JOIN coupons c ON c.id = u.coupon_id
    WHERE u.claim_until <= at
    GROUP BY u.coupon_id
  ),
  unspent AS (
    SELECT u.coupon_id, count(*) FILTER (WHERE user_coupon_status(u, c, at) = 'REVOKED') AS revoked,
      count(*) FILTER (WHERE user_coupon_status(u, c, at) = 'EXPIRED') AS expired
    FROM (
      SELECT DISTINCT s.user_coupon_id FROM usages s JOIN coupons c ON c.id = s.coupon_id
      WHERE s.cancelled_at IS NOT NULL AND c.exhausted_at IS NOT NULL
    ) x
    JOIN user_coupons u ON u.id = x.user_coupon_id JOIN coupons c ON c.id = u.coupon_id
    WHERE u.deleted_at IS NULL AND u.use_count < u.place_count
    GROUP BY u.coupon_id
  ),
  counted AS (
    SELECT c.type, c.code_total, c.issued_total, c.deleted_total, c.released_total, c.used_count + c.cancelled_total AS uses,
      c.cancelled_total,
      CASE c.phase
        WHEN 'REVOKED' THEN c.held - CASE WHEN c.exhausted_at IS NULL THEN c.used_up_count ELSE c.placed_holder_count END
          - coalesce(o.released, 0)
        WHEN 'EXHAUSTED' THEN c.held - c.placed_holder_count - coalesce(o.released, 0)
        ELSE 0
      END + coalesce(x.revoked, 0) AS revoked,
      CASE c.phase
        WHEN 'ENDED' THEN c.held - c.used_up_count - coalesce(o.released, 0)
        WHEN 'RUNNING' THEN c.lapsed_count + coalesce(d.n, 0) + coalesce(o.due, 0)
        ELSE 0
      END + coalesce(x.expired, 0) AS expired
    FROM running c LEFT JOIN due d ON d.coupon_id = c.id LEFT JOIN overdue o ON o.coupon_id = c.id
    LEFT JOIN unspent x ON x.coupon_id = c.id
  ),
  totals AS (
    SELECT CASE WHEN grouping(n.type) = 1 THEN 'all' ELSE n.type END AS scope, count(n.issued_total) AS coupons,
      coalesce(sum(n.code_total), 0) AS codes, coalesce(sum(n.issued_total), 0) AS issued,
      coalesce(sum(n.deleted_total), 0) AS deleted, coalesce(sum(n.released_total), 0) AS released,
      coalesce(sum(n.uses), 0) AS used, coalesce(sum(n.cancelled_total), 0) AS cancelled,
      coalesce(sum(n.revoked), 0) AS revoked, coalesce(sum(n.expired), 0) AS expired
    FROM counted n GROUP BY GROUPING SETS ((), (n.type))
    HAVING grouping(n.type) = 1 OR n.type IS NOT NULL
  )
  INSERT INTO stats_snapshots AS s (scope, read_at, asked_at, coupon_count, code_count, issued_count, deleted_count,
    released_count, used_count, cancelled_count, revoked_count, expired_count)
  SELECT t.scope, at, at, t.coupons, t.codes, t.issued, t.deleted, t.released, t.used, t.cancelled, t.revoked, t.expired
  FROM totals t
  ON CONFLICT (scope) DO UPDATE SET read_at = excluded.read_at, coupon_count = excluded.coupon_count,
    code_count = excluded.code_count, issued_count = excluded.issued_count, deleted_count = excluded.deleted_count,
    released_count = excluded.released_count, used_count = excluded.used_count, cancelled_count = excluded.cancelled_count,
    revoked_count = excluded.revoked_count, expired_count = excluded.expired_count;
  -- Of a type that has no coupon any more, or never had one, nothing is kept.
  DELETE FROM stats_snapshots s WHERE s.read_at <> at;
  UPDATE stats_snapshots s SET took_ms = date_part('epoch', clock_timestamp() - began) * 1000 WHERE s.scope = 'all';
  RETURN true;
END
$$;
