-- Removes codes whose coupons the caller has locked. Free seats that are in a coupon's stock leave it: its quantity goes
-- down.
CREATE OR REPLACE FUNCTION remove_codes(code_ids bigint[], at timestamptz) RETURNS void
LANGUAGE sql VOLATILE AS $$
  WITH removed AS (
    DELETE FROM codes k WHERE k.id = ANY (code_ids)
    RETURNING k.coupon_id, CASE WHEN k.retired_at IS NULL THEN k.max_holders - k.holder_count ELSE 0 END AS seats
  ),
  totals AS (
    SELECT r.coupon_id, count(*) AS n, sum(r.seats) AS seats FROM removed r GROUP BY r.coupon_id
  ),
  counted AS (
    UPDATE coupons c SET quantity = c.quantity - t.seats, revision = c.revision + 1
    FROM totals t WHERE c.id = t.coupon_id AND t.seats > 0
  )
  INSERT INTO events (kind, happened_at, coupon_id, detail)
  SELECT 'CODES_PURGED', at, t.coupon_id, jsonb_build_object('count', t.n) FROM totals t
$$;
