-- Where a user coupon stands. The same rule as userCouponStatus() in the domain; a test compares the two.
CREATE OR REPLACE FUNCTION user_coupon_status(
  valid_until timestamptz, coupon_expires_at timestamptz, coupon_revoked_at timestamptz, at timestamptz
) RETURNS text
LANGUAGE sql IMMUTABLE AS $$
  SELECT CASE
    WHEN coupon_revoked_at <= at THEN 'REVOKED'
    WHEN least(valid_until, coupon_expires_at) <= at THEN 'EXPIRED'
    ELSE 'READY'
  END
$$;
