-- Gives up the locks of one user's user coupons, where the named version still stands. One row for each user coupon that
-- the user holds; those that are missing are not the user's.
CREATE OR REPLACE FUNCTION unlock_user_coupons(holder text, items json) RETURNS TABLE (id uuid, unlocked boolean)
LANGUAGE plpgsql VOLATILE
-- As in cancel_usages().
SET enable_seqscan = off
SET enable_bitmapscan = off
SET enable_material = off
SET enable_hashjoin = off
SET enable_mergejoin = off
SET plan_cache_mode = force_generic_plan
AS $$
#variable_conflict use_column
DECLARE
  at timestamptz;
  named uuid[] := array(SELECT a.user_coupon_id FROM json_to_recordset(items) AS a (user_coupon_id uuid));
BEGIN
  PERFORM lock_coupons(array(SELECT u.coupon_id FROM user_coupons u WHERE u.id = ANY (named) AND u.user_id = holder));
  at := coupon_clock();

  RETURN QUERY
  WITH asked AS (
    SELECT u.id, u.locked_until > at AND u.lock_version = a.lock_version AS stands
    FROM json_to_recordset(items) AS a (user_coupon_id uuid, lock_version bigint)
    -- By its key, and not through all that are not deleted.
    CROSS JOIN LATERAL (SELECT * FROM user_coupons u WHERE u.id = a.user_coupon_id OFFSET 0) u
    WHERE u.user_id = holder AND u.deleted_at IS NULL
  ),
  -- All or none: one that is not the user's is a mistake of the caller.
  ended AS (
    UPDATE user_coupons u SET locked_until = NULL, lock_token = NULL
    FROM asked a
    WHERE u.id = a.id AND a.stands AND (SELECT count(*) FROM asked) = json_array_length(items)
    RETURNING u.id, u.coupon_id, u.user_id, u.lock_version
  ),
  logged AS (
    INSERT INTO events (kind, happened_at, coupon_id, user_coupon_id, user_id, detail)
    SELECT 'USER_COUPON_UNLOCKED', at, e.coupon_id, e.id, e.user_id, jsonb_build_object('lockVersion', e.lock_version)
    FROM ended e
  )
  SELECT a.id, coalesce(a.stands, false) FROM asked a;
END
$$;
