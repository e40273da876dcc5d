-- At most `size` coupons of a type that can be issued now, in the order in which they expire. The type's pool counts as what it has
-- that expires first.
CREATE OR REPLACE FUNCTION list_issuable(of_type text, size int) RETURNS TABLE (id uuid)
LANGUAGE plpgsql STABLE
-- A range of coupons_by_type in its order, whatever the statistics: see list_user_coupons(). Of those that expire at the same time
-- any come first, or all of them would be read for a few.
SET enable_seqscan = off
SET enable_bitmapscan = off
SET enable_sort = off
-- Planned anew each time, which is once a second: while there were few coupons, the type's pool is looked for among all of its type.
SET plan_cache_mode = force_custom_plan
AS $$
#variable_conflict use_column
DECLARE
  at CONSTANT timestamptz := coupon_clock();
BEGIN
  RETURN QUERY
  SELECT one.id FROM (
    (SELECT c.id, c.expires_at FROM coupons c
     WHERE c.type = of_type AND NOT c.is_pool AND c.deleted_at IS NULL AND c.paused_at IS NULL AND c.exhausted_at IS NULL
       AND c.starts_at <= at AND c.expires_at > at AND (c.issued_count < c.quantity) IS NOT FALSE
     ORDER BY c.expires_at LIMIT size)
    UNION ALL
    (SELECT c.id, first.expires_at FROM coupons c
     CROSS JOIN LATERAL (
       SELECT k.expires_at FROM codes k
       WHERE k.coupon_id = c.id AND k.pick_key >= c.free_from AND k.holder_count < k.max_holders
         AND k.retired_at IS NULL AND k.expires_at > at
       ORDER BY k.pick_key LIMIT 1
     ) first
     WHERE c.type = of_type AND c.is_pool AND c.deleted_at IS NULL AND c.paused_at IS NULL AND c.exhausted_at IS NULL
       AND c.starts_at <= at AND c.expires_at > at AND (c.issued_count < c.quantity) IS NOT FALSE)
  ) one
  ORDER BY one.expires_at, one.id
  LIMIT size;
END
$$;
