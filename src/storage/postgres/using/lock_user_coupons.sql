-- Locks a batch of user coupons, each for one checkout; `together` as in use_user_coupons(). A standing lock is renewed when
-- the item names its version, or has the token of the call that was granted it, and keeps its version. A new one has a greater version
-- than the user coupon's last, and none that another user coupon of its coupon has had: with a code, a version says which lock is meant.
--   GRANTED            it is locked
--   CONSENT            nothing speaks against it, but against another one of the order
--   USER_COUPON_NOT_FOUND, or a reason of usage_refusal(): refused
--   NOT_STACKABLE      nothing else speaks against it, but what stands of the order that it is locked for: uses, and locks of
--                      user coupons that this call does not name
--   ORDER_MISMATCH     nor that, but uses that stand of the order were told another amount or currency
--
-- Without `together` no two items of a batch may be of one user's same order. An `order_id` of '' is none.
--
-- A lock never outlasts the user coupon nor its claim window. Of several calls that ask for one user coupon the
-- first wins.
CREATE OR REPLACE FUNCTION lock_user_coupons(coupon_ids uuid[], items json, together boolean)
RETURNS TABLE (outcome text, version bigint, until_ms bigint)
LANGUAGE plpgsql VOLATILE
-- With plans of its own for each call, planning would take ten times as long as the work. They are cached while the tables are still
-- small; nested loops over the indexes are right at every size.
SET enable_seqscan = off
SET plan_cache_mode = force_generic_plan
SET enable_hashjoin = off
SET enable_mergejoin = off
AS $$
#variable_conflict use_column
DECLARE
  at timestamptz;
  micros bigint;
BEGIN
  PERFORM lock_coupons(coupon_ids);
  PERFORM lock_orders(items);
  at := coupon_clock();
  -- For versions, and not whole milliseconds: of two transactions with one coupon the second reads it after the first has committed,
  -- which may be within the same millisecond. Not since 1970: clients took versions of up to 15 digits.
  micros := extract(epoch FROM clock_timestamp() - timestamptz '2026-01-01 00:00:00Z') * 1000000;

  RETURN QUERY
  WITH asked AS (
    SELECT row_number() OVER () AS ord, a.*
    FROM json_to_recordset(items) AS a (user_coupon_id uuid, coupon_id uuid, user_id text, lock_version bigint, token text, order_id text,
      order_amount bigint, currency_code char(3))
  ),
  -- Once: the rank asks whether there is an outcome, and the rest which one it is.
  checked AS MATERIALIZED (
    SELECT
      a.*, u.lock_version AS current_version, u.locked_until > at AS locked, u.use_count >= u.place_count AS needs_place,
      c.usage_cap - c.place_count AS cap_left,
      least(at + c.lock_duration_ms * interval '1 millisecond', u.valid_until, c.expires_at, u.claim_until) AS until,
      CASE
        WHEN u.id IS NULL OR u.user_id <> a.user_id OR u.deleted_at IS NOT NULL THEN 'USER_COUPON_NOT_FOUND'
        ELSE coalesce(
          usage_refusal(u, c, CASE WHEN u.locked_until > at AND u.lock_token = a.token THEN u.lock_version ELSE a.lock_version END, at),
          CASE WHEN a.order_id <> '' AND EXISTS (
            SELECT FROM standing_uses(a.user_id, a.order_id) o WHERE o.use_count > 0 AND NOT (o.is_stackable AND c.stackable)
            UNION ALL
            SELECT FROM locked_for_order(a.user_id, a.order_id, at) l
            JOIN coupons lc ON lc.id = l.coupon_id
            WHERE NOT (lc.stackable AND c.stackable) AND l.id <> a.user_coupon_id AND NOT (together AND l.id IN (
              SELECT b.user_coupon_id FROM json_to_recordset(items) AS b (user_coupon_id uuid)
            ))
          ) THEN 'NOT_STACKABLE' END,
          CASE WHEN a.order_id <> '' AND a.order_amount IS NOT NULL AND EXISTS (
            SELECT FROM standing_uses(a.user_id, a.order_id) o
            WHERE o.use_count > 0 AND (o.order_amount, o.currency_code) IS DISTINCT FROM (a.order_amount, a.currency_code)
          ) THEN 'ORDER_MISMATCH' END
        )
      END AS outcome
    FROM asked a
    LEFT JOIN user_coupons u ON u.id = a.user_coupon_id AND u.coupon_id = a.coupon_id
    LEFT JOIN coupons c ON c.id = u.coupon_id
  ),
  ranked AS (
    SELECT
      o.*,
      coalesce(o.outcome, CASE
        WHEN NOT coalesce(o.locked, false)
          AND first_value(o.token) OVER (PARTITION BY o.user_coupon_id, o.outcome IS NULL ORDER BY o.ord) <> o.token
          THEN 'LOCKED'
        -- As in use_user_coupons(): an order that the cap has no place for is not locked either.
        WHEN together AND o.needs_place AND row_number() OVER (
          PARTITION BY o.coupon_id, o.outcome IS NULL AND o.needs_place ORDER BY o.ord
        ) > o.cap_left THEN 'USAGE_CAP_REACHED'
      END) AS outcome_2
    FROM checked o
  ),
  chosen AS MATERIALIZED (
    SELECT
      r.*, r.outcome_2 IS NULL AND NOT (together AND bool_or(r.outcome_2 IS NOT NULL) OVER ()) AS taken,
      -- An item takes longer than 8 microseconds, so the next transaction begins beyond the last one here. The steps leave room for
      -- releases that add 1 to the version of the user coupon.
      CASE WHEN r.locked THEN r.current_version
        ELSE greatest(r.current_version + 1, micros + 8 * dense_rank() OVER (ORDER BY r.user_coupon_id)) END AS new_version
    FROM ranked r
  ),
  granted AS (
    UPDATE user_coupons u SET
      locked_until = n.until,
      -- A lock that is renewed is still the one that its first call was granted, and may ask for again.
      lock_token = CASE WHEN n.locked THEN u.lock_token ELSE n.token END,
      lock_version = n.new_version,
      -- One that is renewed without an order is for the same as before.
      lock_order = CASE
        WHEN n.order_id <> '' THEN n.new_version || ' ' || n.order_id
        WHEN n.locked THEN u.lock_order
      END
    -- Of several calls for one lock some may name no order: it is for the order that the first of the others names.
    FROM (SELECT DISTINCT ON (user_coupon_id) * FROM chosen WHERE taken ORDER BY user_coupon_id, order_id = '', ord) n
    WHERE u.id = n.user_coupon_id
    RETURNING u.id, u.coupon_id, u.user_id, u.lock_version, u.locked_until
  ),
  logged AS (
    INSERT INTO events (kind, happened_at, coupon_id, user_coupon_id, user_id, detail)
    SELECT 'USER_COUPON_LOCKED', at, g.coupon_id, g.id, g.user_id,
      jsonb_build_object('lockVersion', g.lock_version, 'lockedUntil', g.locked_until)
    FROM granted g
  )
  SELECT
    CASE WHEN n.outcome_2 IS NOT NULL THEN n.outcome_2 WHEN n.taken THEN 'GRANTED' ELSE 'CONSENT' END,
    n.new_version,
    millis(n.until)
  FROM chosen n
  ORDER BY n.ord;
END
$$;
