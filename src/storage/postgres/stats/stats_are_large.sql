-- Whether GetStats of all would have to read more than `most` rows of one kind to be of this very moment.
CREATE OR REPLACE FUNCTION stats_are_large(at timestamptz, most int) RETURNS boolean
LANGUAGE plpgsql STABLE
SET enable_seqscan = off
SET enable_hashjoin = off
SET enable_mergejoin = off
SET plan_cache_mode = force_generic_plan
AS $$
BEGIN
  -- Each as far as it takes to know, and no further.
  RETURN (SELECT count(*) FROM (SELECT FROM coupons c ORDER BY c.id LIMIT most + 1) n) > most
    OR due_are_many(at, most)
    OR (SELECT count(*) FROM (
      SELECT FROM coupons c JOIN usages s ON s.coupon_id = c.id AND s.cancelled_at IS NOT NULL
      WHERE c.exhausted_at IS NOT NULL LIMIT most + 1
    ) n) > most;
END
$$;
