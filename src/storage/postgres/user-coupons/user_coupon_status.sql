-- Where a user coupon stands. The same rule as userCouponStatus() in the domain; a test compares the two.
CREATE OR REPLACE FUNCTION user_coupon_status(u user_coupons, c coupons, at timestamptz) RETURNS text
LANGUAGE sql IMMUTABLE AS $$
  SELECT CASE
    WHEN u.released_at IS NOT NULL OR (u.claim_until <= at AND u.claim_until < least(u.valid_until, c.expires_at)) THEN 'RELEASED'
    WHEN u.use_count >= u.max_uses THEN 'USED'
    WHEN c.exhausted_at IS NOT NULL AND u.use_count > 0 AND u.use_count >= u.place_count THEN 'USED'
    WHEN c.revoked_at <= at THEN 'REVOKED'
    WHEN c.exhausted_at IS NOT NULL AND u.place_count = 0 THEN 'REVOKED'
    WHEN least(u.valid_until, c.expires_at) <= at THEN 'EXPIRED'
    WHEN u.locked_until > at THEN 'LOCKED'
    ELSE 'READY'
  END
$$;
