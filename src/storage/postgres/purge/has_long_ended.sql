-- Whether a coupon's end is so long ago that what is left unused of it may be purged. An end that was moved counts from
-- when it was moved.
CREATE OR REPLACE FUNCTION has_long_ended(c coupons, horizon timestamptz) RETURNS boolean
LANGUAGE sql IMMUTABLE AS $$
  SELECT greatest(c.expires_at, c.updated_at) <= horizon
$$;
