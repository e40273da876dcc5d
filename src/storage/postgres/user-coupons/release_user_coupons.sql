-- Takes back what was not used within its claim window, at most `batch_size` at once: frees the slots and puts the stock
-- back with the codes, exactly once, however many replicas do this at the same time. With `skip_held` coupons that others hold are left for the next time. One row for each that was released;
-- `freed` and `given_back_no` as in delete_user_coupon().
CREATE OR REPLACE FUNCTION release_user_coupons(batch_size int, skip_held boolean)
RETURNS TABLE (id uuid, coupon_id uuid, user_id text, request_id text, freed boolean, given_back_no bigint)
LANGUAGE plpgsql VOLATILE
SET enable_seqscan = off
SET enable_hashjoin = off
SET enable_mergejoin = off
AS $$
#variable_conflict use_column
DECLARE
  at timestamptz := coupon_clock();
  ids uuid[];
  locked uuid[];
  code_ids bigint[];
BEGIN
  SELECT array_agg(due.id) INTO ids
  FROM (SELECT u.id FROM user_coupons u WHERE u.claim_until <= at ORDER BY u.claim_until LIMIT batch_size) due;
  IF ids IS NULL THEN RETURN; END IF;
  locked := lock_free_coupons(array(SELECT DISTINCT u.coupon_id FROM user_coupons u WHERE u.id = ANY (ids)), skip_held);
  ids := array(SELECT u.id FROM user_coupons u WHERE u.id = ANY (ids) AND u.coupon_id = ANY (locked));

  -- What has expired before its window ended is not released any more: its stock has gone with it.
  UPDATE user_coupons u SET claim_until = NULL
  FROM coupons c
  WHERE u.id = ANY (ids) AND c.id = u.coupon_id AND u.claim_until <= at AND u.claim_until >= least(u.valid_until, c.expires_at);

  SELECT array_agg(u.code_id) INTO code_ids
  FROM user_coupons u WHERE u.id = ANY (ids) AND u.claim_until <= at AND u.code_id IS NOT NULL;

  RETURN QUERY
  WITH released AS (
    UPDATE user_coupons u
    SET released_at = at, slot = NULL, claim_until = NULL, locked_until = NULL, lock_token = NULL, lapse_at = NULL, gone_at = at
    WHERE u.id = ANY (ids) AND u.claim_until <= at
    RETURNING u.id, u.coupon_id, u.user_id, u.request_id, (u.valid_until <= at) IS TRUE AS freed
  ),
  counted AS (
    UPDATE coupons c SET issued_count = c.issued_count - r.n, released_total = c.released_total + r.n
    FROM (SELECT coupon_id, count(*) AS n FROM released GROUP BY coupon_id) r
    WHERE c.id = r.coupon_id
  ),
  logged AS (
    INSERT INTO events (kind, happened_at, coupon_id, user_coupon_id, user_id)
    SELECT 'USER_COUPON_RELEASED', at, r.coupon_id, r.id, r.user_id FROM released r
  )
  -- The totals as they were before, for all of this sees the same moment.
  SELECT r.*, c.released_total + c.deleted_total + row_number() OVER (PARTITION BY r.coupon_id)
  FROM released r JOIN coupons c ON c.id = r.coupon_id;

  IF code_ids IS NOT NULL THEN PERFORM give_back_codes(code_ids); END IF;
END
$$;
