-- Removes, of a batch of codes, those that nobody holds and that have been expired for `after_days`, or whose coupon was deleted
-- `deleted_hours` ago. Nobody holds a code either whose user coupons were deleted without being put back, and purged since. With
-- `dry_run` it only counts. No row: another transaction is purging.
CREATE OR REPLACE FUNCTION purge_codes(batch bigint[], after_days int, deleted_hours int, dry_run boolean)
RETURNS TABLE (code_count int)
LANGUAGE plpgsql VOLATILE
SET enable_seqscan = off
SET enable_hashjoin = off
SET enable_mergejoin = off
AS $$
DECLARE
  at timestamptz;
  horizon timestamptz;
  ids bigint[];
BEGIN
  IF NOT claim_purge() THEN RETURN; END IF;
  IF NOT dry_run THEN
    PERFORM FROM coupons c
    WHERE c.id IN (SELECT k.coupon_id FROM codes k WHERE k.id = ANY (batch)) ORDER BY c.id FOR NO KEY UPDATE;
  END IF;
  at := coupon_clock();
  horizon := at - after_days * interval '24 hours';

  SELECT array_agg(k.id) INTO ids
  FROM codes k JOIN coupons c ON c.id = k.coupon_id
  WHERE k.id = ANY (batch)
    AND (k.holder_count = 0 OR NOT EXISTS (SELECT FROM user_coupons u WHERE u.code_id = k.id))
    AND (k.retired_at <= horizon OR has_long_ended(c, horizon) OR c.deleted_at <= at - deleted_hours * interval '1 hour');
  RETURN QUERY SELECT coalesce(cardinality(ids), 0);
  IF NOT dry_run THEN PERFORM remove_codes(ids, at); END IF;
END
$$;
