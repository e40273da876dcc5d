-- The one clock that decides, to the millisecond. Not now(): that is when the transaction began, which may be long
-- before a lock was granted. Tests that move time replace this function.
CREATE OR REPLACE FUNCTION coupon_clock() RETURNS timestamptz
LANGUAGE sql VOLATILE AS $$
  SELECT date_trunc('milliseconds', clock_timestamp())
$$;
