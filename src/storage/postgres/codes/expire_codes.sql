-- Takes codes whose own expire time has passed out of stock, at most `batch_size` at once, exactly once, however many
-- replicas do this at the same time. Those that have no free seat are marked, too, so that they are not looked at again.
-- With `skip_held` coupons that others hold are left for the next time. One row for each of their coupons: how many codes left its stock.
CREATE OR REPLACE FUNCTION expire_codes(batch_size int, skip_held boolean)
RETURNS TABLE (coupon_id uuid, expired_count bigint)
LANGUAGE plpgsql VOLATILE
-- The plans are cached while the tables are still small.
SET enable_seqscan = off
AS $$
#variable_conflict use_column
DECLARE
  at timestamptz := coupon_clock();
  ids bigint[];
  locked uuid[];
BEGIN
  SELECT array_agg(due.id) INTO ids
  FROM (
    SELECT k.id FROM codes k
    WHERE k.expires_at IS NOT NULL AND k.retired_at IS NULL AND k.expires_at <= at
    ORDER BY k.expires_at LIMIT batch_size
  ) due;
  IF ids IS NULL THEN RETURN; END IF;
  locked := lock_free_coupons(array(SELECT DISTINCT k.coupon_id FROM codes k WHERE k.id = ANY (ids)), skip_held);
  at := coupon_clock();

  RETURN QUERY
  WITH expired AS (
    UPDATE codes k SET retired_at = at
    WHERE k.id = ANY (ids) AND k.coupon_id = ANY (locked) AND k.retired_at IS NULL
    RETURNING k.coupon_id, k.max_holders - k.holder_count AS seats
  ),
  by_coupon AS (
    SELECT e.coupon_id, sum(e.seats) AS seats, count(*) FILTER (WHERE e.seats > 0) AS expired_count
    FROM expired e GROUP BY e.coupon_id
  ),
  counted AS (
    UPDATE coupons c SET quantity = c.quantity - b.seats, revision = c.revision + 1, updated_at = at
    FROM by_coupon b WHERE c.id = b.coupon_id AND b.seats > 0
  ),
  logged AS (
    INSERT INTO events (kind, happened_at, coupon_id, detail)
    SELECT 'CODES_EXPIRED', at, b.coupon_id, jsonb_build_object('codeCount', b.expired_count, 'placeCount', b.seats)
    FROM by_coupon b WHERE b.seats > 0 ORDER BY b.coupon_id
  )
  SELECT b.coupon_id, b.expired_count FROM by_coupon b;
END
$$;
