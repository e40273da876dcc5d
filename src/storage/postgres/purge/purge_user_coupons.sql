-- Removes, of a batch of user coupons, those that were never used and ended (expired, were deleted or released) `after_days`
-- ago, or those that went with their coupon's end, as long ago; and the codes that only they held, unless such a code can
-- still be issued. With `dry_run` it only counts. No row: another transaction is purging.
CREATE OR REPLACE FUNCTION purge_user_coupons(batch uuid[], of_ended boolean, after_days int, dry_run boolean)
RETURNS TABLE (user_coupon_count int, code_count int)
LANGUAGE plpgsql VOLATILE
SET enable_seqscan = off
SET enable_hashjoin = off
SET enable_mergejoin = off
AS $$
#variable_conflict use_column
DECLARE
  at timestamptz;
  horizon timestamptz;
  ids uuid[];
  code_ids bigint[];
BEGIN
  IF NOT claim_purge() THEN RETURN; END IF;
  IF NOT dry_run THEN
    PERFORM FROM coupons c
    WHERE c.id IN (SELECT u.coupon_id FROM user_coupons u WHERE u.id = ANY (batch)) ORDER BY c.id FOR NO KEY UPDATE;
  END IF;
  at := coupon_clock();
  horizon := at - after_days * interval '24 hours';

  SELECT array_agg(u.id) INTO ids
  FROM user_coupons u JOIN coupons c ON c.id = u.coupon_id
  WHERE u.id = ANY (batch) AND u.place_count = 0 AND CASE
    -- Each row is of one kind only, or a dry run would count it twice.
    WHEN u.gone_at <= horizon THEN NOT of_ended
    ELSE of_ended AND u.deleted_at IS NULL AND has_long_ended(c, horizon) AND user_coupon_status(u, c, at) <> 'RELEASED'
  END;
  -- A code with free seats is kept until it has expired itself; one that nobody holds any more goes by itself.
  SELECT array_agg(k.id) INTO code_ids
  FROM (SELECT DISTINCT u.code_id FROM user_coupons u WHERE u.id = ANY (ids)) held
  JOIN codes k ON k.id = held.code_id
  JOIN coupons c ON c.id = k.coupon_id
  WHERE k.holder_count > 0 AND (k.holder_count >= k.max_holders OR k.retired_at <= horizon OR has_long_ended(c, horizon))
    AND NOT EXISTS (SELECT FROM user_coupons u WHERE u.code_id = k.id AND u.id <> ALL (ids));
  RETURN QUERY SELECT coalesce(cardinality(ids), 0), coalesce(cardinality(code_ids), 0);
  IF dry_run OR ids IS NULL THEN RETURN; END IF;

  WITH removed AS (
    DELETE FROM user_coupons u WHERE u.id = ANY (ids)
    RETURNING u.coupon_id, u.lapsed,
      CASE WHEN u.released_at IS NOT NULL THEN 'released' WHEN u.deleted_at IS NOT NULL THEN 'deleted' ELSE 'expired' END AS kind
  ),
  totals AS (
    SELECT r.coupon_id, count(*) FILTER (WHERE r.kind = 'expired') AS expired,
      count(*) FILTER (WHERE r.kind = 'expired' AND NOT r.lapsed) AS uncounted,
      count(*) FILTER (WHERE r.kind = 'deleted') AS deleted, count(*) FILTER (WHERE r.kind = 'released') AS released
    FROM removed r GROUP BY r.coupon_id
  ),
  counted AS (
    UPDATE coupons c SET purged_total = c.purged_total + t.expired, lapsed_count = c.lapsed_count + t.uncounted
    FROM totals t WHERE c.id = t.coupon_id
  )
  INSERT INTO events (kind, happened_at, coupon_id, detail)
  SELECT 'USER_COUPONS_PURGED', at, t.coupon_id,
    jsonb_build_object('expired', t.expired, 'deleted', t.deleted, 'released', t.released)
  FROM totals t;
  PERFORM remove_codes(code_ids, at);
END
$$;
