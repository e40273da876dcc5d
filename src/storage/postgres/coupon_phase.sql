-- What has become of a coupon as far as it decides over its user coupons: REVOKED, EXHAUSTED, ENDED or RUNNING, the first
-- that applies.
CREATE OR REPLACE FUNCTION coupon_phase(c coupons, at timestamptz) RETURNS text
LANGUAGE sql IMMUTABLE AS $$
  SELECT CASE
    WHEN c.revoked_at <= at THEN 'REVOKED'
    WHEN c.exhausted_at IS NOT NULL THEN 'EXHAUSTED'
    WHEN c.expires_at <= at THEN 'ENDED'
    ELSE 'RUNNING'
  END
$$;
