-- A time as whole milliseconds since 1970, which a client reads faster than text.
-- STABLE, as date_part() is: a function that claims more than its body is never inlined, and a call of it costs 10 us.
CREATE OR REPLACE FUNCTION millis(at timestamptz) RETURNS bigint
LANGUAGE sql STABLE AS $$
  SELECT (date_part('epoch', at) * 1000)::bigint
$$;
