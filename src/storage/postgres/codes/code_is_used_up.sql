-- Whether all who hold a code have used it as often as they may; so it is when nobody holds it, which matters only where all its seats are
-- taken: then by user coupons that were deleted and not put back. Of a code that more than `most_looked` users hold this is known
-- only when it holds for all that was issued of its coupon. The newest are looked at first, and no more than can tell.
CREATE OR REPLACE FUNCTION code_is_used_up(of_code bigint, c coupons, most_looked int) RETURNS boolean
LANGUAGE plpgsql STABLE
-- A range of user_coupons_by_code in its order, whatever the statistics: see list_user_coupons().
SET enable_seqscan = off
SET enable_bitmapscan = off
SET enable_sort = off
SET plan_cache_mode = force_generic_plan
AS $$
DECLARE
  last CONSTANT uuid := 'ffffffff-ffff-ffff-ffff-ffffffffffff';
BEGIN
  RETURN (
    SELECT coalesce(bool_and(h.status = 'USED'), true)
      AND (count(*) <= most_looked OR c.used_up_count = c.issued_total - c.deleted_total - c.released_total)
    FROM (
      SELECT user_coupon_status(u, c, coupon_clock()) AS status FROM user_coupons u
      WHERE (u.code_id, u.id) < (of_code, last) AND u.code_id >= of_code AND u.deleted_at IS NULL AND u.released_at IS NULL
      ORDER BY u.code_id DESC, u.id DESC LIMIT most_looked + 1
    ) h
  );
END
$$;
