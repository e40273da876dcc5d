-- Frees one seat of a code for each time that it is named. The coupons are locked by the caller, and their stock has been
-- counted back. The seats of a code that has expired are in no stock any more: there the quantity goes down, too.
CREATE OR REPLACE FUNCTION give_back_codes(code_ids bigint[]) RETURNS void
LANGUAGE sql VOLATILE AS $$
  WITH freed AS (
    UPDATE codes k SET holder_count = k.holder_count - f.n
    FROM (SELECT f.id, count(*)::int AS n FROM unnest(code_ids) AS f (id) GROUP BY f.id) f
    WHERE k.id = f.id
    RETURNING k.coupon_id, f.n, k.retired_at
  )
  UPDATE coupons c SET quantity = c.quantity - f.n, revision = c.revision + 1
  FROM (SELECT f.coupon_id, sum(f.n) AS n FROM freed f WHERE f.retired_at IS NOT NULL GROUP BY f.coupon_id) f
  WHERE c.id = f.coupon_id
$$;
