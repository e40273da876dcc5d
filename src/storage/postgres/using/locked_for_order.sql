-- The user coupons that are locked for one user's order. It looks at the newest 1,000 that the user holds, for locks are short and
-- what is locked was mostly issued of late; a use is judged by uses alone, so one that is missed here does no harm.
CREATE OR REPLACE FUNCTION locked_for_order(holder text, named text, at timestamptz) RETURNS SETOF user_coupons
LANGUAGE sql STABLE AS $$
  SELECT * FROM (
    SELECT u.* FROM user_coupons u
    WHERE (u.user_id COLLATE "C", u.id) < (holder COLLATE "C", 'ffffffff-ffff-ffff-ffff-ffffffffffff'::uuid)
      AND u.user_id COLLATE "C" >= holder COLLATE "C" AND u.deleted_at IS NULL
    ORDER BY u.user_id COLLATE "C" DESC, u.id DESC
    LIMIT 1000
  ) u
  WHERE u.locked_until > at AND u.lock_order = u.lock_version || ' ' || named
$$;
