-- Locks the coupons of a job's batch, and answers which. For as long as it waits, calls wait for those that it has: so it waits for less long than
-- they do in lock_coupons(), and longer than their batches take. When others hold some of them for longer, it is asked again to skip those, for which the job comes back; see held-coupons.ts.
-- Where they hold all of them it waits for one, as long as for any other lock, and has none meanwhile. Planned as whoever calls it is.
CREATE OR REPLACE FUNCTION lock_free_coupons(coupon_ids uuid[], skip_held boolean) RETURNS uuid[]
LANGUAGE plpgsql VOLATILE
SET lock_timeout = '300ms'
AS $$
DECLARE
  free uuid[];
BEGIN
  IF NOT skip_held THEN
    PERFORM FROM coupons c WHERE c.id = ANY (coupon_ids) ORDER BY c.id FOR NO KEY UPDATE;
    RETURN coupon_ids;
  END IF;
  free := array(SELECT c.id FROM coupons c WHERE c.id = ANY (coupon_ids) FOR NO KEY UPDATE SKIP LOCKED);
  IF free <> '{}' THEN RETURN free; END IF;
  SET LOCAL lock_timeout = '2s';
  PERFORM FROM coupons c WHERE c.id = coupon_ids[1] FOR NO KEY UPDATE;
  RETURN coupon_ids[1:1];
END;
$$;
