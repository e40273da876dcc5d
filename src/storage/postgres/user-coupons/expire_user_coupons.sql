-- Counts the user coupons whose own validity has run out before they were used up, at most `batch_size` at once: each once,
-- however many replicas do this at the same time. Those that were not used within their claim window before are left to
-- release_user_coupons(), and with `skip_held` coupons that others hold to the next time. Answers how many it has looked at.
CREATE OR REPLACE FUNCTION expire_user_coupons(batch_size int, skip_held boolean) RETURNS int
LANGUAGE plpgsql VOLATILE
SET enable_seqscan = off
SET enable_hashjoin = off
SET enable_mergejoin = off
AS $$
DECLARE
  at timestamptz := coupon_clock();
  ids uuid[];
  locked uuid[];
BEGIN
  SELECT array_agg(due.id) INTO ids
  FROM (
    SELECT u.id FROM user_coupons u JOIN coupons c ON c.id = u.coupon_id
    WHERE u.lapse_at <= at AND user_coupon_status(u, c, at) <> 'RELEASED'
    ORDER BY u.lapse_at LIMIT batch_size
  ) due;
  IF ids IS NULL THEN RETURN 0; END IF;
  locked := lock_free_coupons(array(SELECT DISTINCT u.coupon_id FROM user_coupons u WHERE u.id = ANY (ids)), skip_held);
  ids := array(SELECT u.id FROM user_coupons u WHERE u.id = ANY (ids) AND u.coupon_id = ANY (locked));
  at := coupon_clock();

  WITH expired AS (
    -- The stock has gone with it: there is nothing to release any more, also when the coupon's end is moved.
    UPDATE user_coupons u
    SET lapsed = true, lapse_at = NULL, claim_until = NULL, gone_at = CASE WHEN u.place_count = 0 THEN u.valid_until END
    FROM coupons c
    WHERE u.id = ANY (ids) AND c.id = u.coupon_id AND u.lapse_at <= at AND user_coupon_status(u, c, at) <> 'RELEASED'
    RETURNING u.id, u.coupon_id, u.user_id
  ),
  counted AS (
    UPDATE coupons c SET lapsed_count = c.lapsed_count + e.n
    FROM (SELECT coupon_id, count(*) AS n FROM expired GROUP BY coupon_id) e
    WHERE c.id = e.coupon_id
  )
  INSERT INTO events (kind, happened_at, coupon_id, user_coupon_id, user_id)
  SELECT 'USER_COUPON_EXPIRED', at, e.coupon_id, e.id, e.user_id FROM expired e;
  RETURN cardinality(ids);
END
$$;
