-- What speaks against using or locking a user coupon as it stands, with a lock of this version (0: none); null: nothing.
-- The same reasons in the same order as judgeOrder() in the domain, which also knows of the order's amount.
CREATE OR REPLACE FUNCTION usage_refusal(u user_coupons, c coupons, given_version bigint, at timestamptz) RETURNS text
LANGUAGE sql IMMUTABLE AS $$
  SELECT CASE
    WHEN u.released_at IS NOT NULL OR (u.claim_until <= at AND u.claim_until < least(u.valid_until, c.expires_at))
      THEN 'USER_COUPON_RELEASED'
    WHEN u.use_count >= u.max_uses THEN 'ALREADY_USED'
    WHEN c.revoked_at <= at THEN 'USER_COUPON_REVOKED'
    WHEN c.exhausted_at IS NOT NULL AND u.place_count <= u.use_count THEN 'USAGE_CAP_REACHED'
    WHEN least(u.valid_until, c.expires_at) <= at THEN 'USER_COUPON_EXPIRED'
    WHEN u.locked_until > at AND u.lock_version = given_version THEN NULL
    WHEN given_version <> 0 THEN 'LOCK_LOST'
    WHEN u.locked_until > at THEN 'LOCKED'
  END
$$;
