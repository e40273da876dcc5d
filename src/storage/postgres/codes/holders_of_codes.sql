-- Of those who hold each of these codes, the first `most`: those whose user coupons were neither deleted nor released.
CREATE OR REPLACE FUNCTION holders_of_codes(code_ids bigint[], most int) RETURNS SETOF user_coupons
LANGUAGE plpgsql STABLE
-- A range of user_coupons_by_code for each, in its order, whatever the statistics: see list_user_coupons().
SET enable_seqscan = off
SET enable_bitmapscan = off
SET enable_sort = off
SET plan_cache_mode = force_generic_plan
AS $$
DECLARE
  before CONSTANT uuid := '00000000-0000-0000-0000-000000000000';
BEGIN
  RETURN QUERY
  SELECT one.* FROM unnest(code_ids) AS k (id) CROSS JOIN LATERAL (
    SELECT u.* FROM user_coupons u
    WHERE (u.code_id, u.id) > (k.id, before) AND u.code_id <= k.id AND u.deleted_at IS NULL AND u.released_at IS NULL
    ORDER BY u.code_id, u.id LIMIT most
  ) one;
END
$$;
