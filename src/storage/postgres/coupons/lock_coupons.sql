-- Locks the coupons of a batch, in the order of their ids: so two batches cannot deadlock on them. One that others hold is waited for a
-- moment only, for all other coupons of the batch wait with it: see held-coupons.ts.
-- Planned as whoever calls it is.
CREATE OR REPLACE FUNCTION lock_coupons(coupon_ids uuid[]) RETURNS void
LANGUAGE plpgsql VOLATILE
SET lock_timeout = '500ms'
AS $$
BEGIN
  PERFORM FROM coupons c WHERE c.id = ANY (coupon_ids) ORDER BY c.id FOR NO KEY UPDATE;
END;
$$;
