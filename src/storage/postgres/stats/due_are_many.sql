-- Whether more than `most` user coupons are due and not counted yet, of either kind. Each is looked at as far as it takes to
-- know, and no further.
CREATE OR REPLACE FUNCTION due_are_many(at timestamptz, most bigint) RETURNS boolean
LANGUAGE plpgsql STABLE
SET enable_seqscan = off
SET plan_cache_mode = force_generic_plan
AS $$
BEGIN
  RETURN (SELECT count(*) FROM (SELECT FROM user_coupons u WHERE u.lapse_at <= at ORDER BY u.lapse_at LIMIT most + 1) n) > most
    OR (SELECT count(*) FROM (SELECT FROM user_coupons u WHERE u.claim_until <= at ORDER BY u.claim_until LIMIT most + 1) n) > most;
END
$$;
