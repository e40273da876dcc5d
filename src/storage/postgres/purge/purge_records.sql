-- Removes answers of requests that are older than `after_days`, and what quota groups counted on days that nobody asks for
-- any more, at most `batch_size` of each. With `dry_run` it only counts. No row: another transaction is purging.
CREATE OR REPLACE FUNCTION purge_records(batch_size int, after_days int, dry_run boolean)
RETURNS TABLE (request_count int, quota_day_count int)
LANGUAGE plpgsql VOLATILE
SET enable_seqscan = off
AS $$
DECLARE
  -- Today's count is all that is read; a day begins up to 14 hours sooner or 12 hours later than in UTC.
  kept_quota_days CONSTANT int := 3;
  at timestamptz := coupon_clock();
  request_tids tid[];
  quota_tids tid[];
BEGIN
  IF NOT claim_purge() THEN RETURN; END IF;
  SELECT array_agg(old.ctid) INTO request_tids
  FROM (
    SELECT r.ctid FROM requests r WHERE r.created_at <= at - after_days * interval '24 hours' ORDER BY r.created_at LIMIT batch_size
  ) old;
  SELECT array_agg(old.ctid) INTO quota_tids
  FROM (
    SELECT q.ctid FROM quota_days q WHERE q.issued_count >= 0 AND q.day < (at AT TIME ZONE 'UTC')::date - kept_quota_days ORDER BY q.day LIMIT batch_size
  ) old;
  IF NOT dry_run THEN
    DELETE FROM requests r WHERE r.ctid = ANY (request_tids);
    DELETE FROM quota_days q WHERE q.ctid = ANY (quota_tids);
  END IF;
  RETURN QUERY SELECT coalesce(cardinality(request_tids), 0), coalesce(cardinality(quota_tids), 0);
END
$$;
