-- Cancels a batch of usages, each of one user, and named by its id or as the only one that stands of a user coupon: one call is one transaction and one round trip. Every counter of what stands
-- goes back by one for each. The place under the coupon's usage cap stays with the user coupon, unless that was deleted: then
-- it goes back to the others, while the cap has not been reached.
--
-- No two items of a batch may have the same request id; the caller sees to that. Each item stands
-- alone and is recorded in `requests` by its request id, which every item has: also one whose caller gave none, for a batch
-- may be sent twice. `again` says that some of the items may have been committed by an earlier call whose answer was lost.
--   CANCELLED          it is cancelled; the usage is as it is now
--   REPLAYED           the same request had cancelled it before; the same
--   CONFLICT           a transaction at the same moment used this request id, or an earlier item is of this usage: ask again
--   REQUEST_ID_REUSED, SEVERAL_USAGES, USAGE_NOT_FOUND, USAGE_ALREADY_CANCELLED
--                      refused, the first that applies in this order
-- `freed` says that a place under the usage cap went back to all.
--
-- Coupons and orders are locked as in use_user_coupons(), and requests after them, in the order of their ids.
CREATE OR REPLACE FUNCTION cancel_usages(items json, again boolean)
RETURNS TABLE (
  outcome text, freed boolean, id uuid, user_coupon_id uuid, coupon_id uuid, user_id text, product_id text, order_id text,
  currency_code text, order_amount bigint, discount_amount bigint, discounted_before bigint, used_at_ms bigint, cancelled_at_ms bigint, code text,
  coupon_name text, coupon_type text, labels jsonb, is_complete boolean
)
LANGUAGE plpgsql VOLATILE
-- The plans are cached while the tables are still small; nested loops over the indexes are right at every size.
SET enable_seqscan = off
SET enable_bitmapscan = off
SET enable_material = off
SET enable_hashjoin = off
SET enable_mergejoin = off
SET plan_cache_mode = force_generic_plan
AS $$
#variable_conflict use_column
DECLARE
  this_method CONSTANT text := 'CancelUsage';
  at timestamptz;
BEGIN
  PERFORM lock_coupons(array(
    SELECT s.coupon_id FROM json_to_recordset(items) AS a (usage_id uuid, user_id text)
    JOIN usages s ON s.id = a.usage_id AND s.user_id = a.user_id
    UNION ALL
    SELECT u.coupon_id FROM json_to_recordset(items) AS a (user_coupon_id uuid, user_id text)
    JOIN user_coupons u ON u.id = a.user_coupon_id AND u.user_id = a.user_id
  ));
  -- Whoever judges one of these orders meanwhile sees what stands of it before this and all that is under way, or after both. Of a user
  -- coupon with several usages that stand none is cancelled.
  PERFORM lock_orders((
    SELECT json_agg(one) FROM (
      SELECT s.user_id, s.order_id FROM json_to_recordset(items) AS a (usage_id uuid, user_id text)
      JOIN usages s ON s.id = a.usage_id AND s.user_id = a.user_id
      UNION ALL
      SELECT s.user_id, s.order_id FROM json_to_recordset(items) AS a (user_coupon_id uuid, user_id text)
      CROSS JOIN LATERAL (
        SELECT * FROM usages t WHERE t.user_coupon_id = a.user_coupon_id AND t.user_id = a.user_id AND t.cancelled_at IS NULL LIMIT 2
      ) s
    ) one
  ));
  at := coupon_clock();

  RETURN QUERY
  WITH asked AS (
    SELECT row_number() OVER () AS ord, a.*
    FROM json_to_recordset(items) AS a (usage_id uuid, user_coupon_id uuid, user_id text, request_id text, input_hash text)
  ),
  found AS MATERIALIZED (
    SELECT a.ord, a.request_id AS call_id, decode(a.input_hash, 'hex') AS input_hash, s.*, u.deleted_at IS NOT NULL AS of_deleted,
      u.use_count >= u.max_uses AS was_used_up, u.code AS held_code,
      CASE
        WHEN earlier.input_hash <> decode(a.input_hash, 'hex') THEN 'REQUEST_ID_REUSED'
        WHEN earlier.request_id IS NOT NULL THEN 'REPLAYED'
        WHEN one.standing > 1 THEN 'SEVERAL_USAGES'
        WHEN s.id IS NULL THEN 'USAGE_NOT_FOUND'
        WHEN s.cancelled_at IS NOT NULL THEN 'USAGE_ALREADY_CANCELLED'
      END AS outcome
    FROM asked a
    -- One by one: while there are few requests, it looks cheaper to go through all of this method.
    LEFT JOIN LATERAL (
      SELECT r.request_id, r.input_hash, (r.answer ->> 'usageId')::uuid AS usage_id FROM requests r
      WHERE r.method = this_method AND r.request_id = a.request_id OFFSET 0
    ) earlier ON true
    -- The one that stands of a user coupon, or else the last one that was cancelled.
    LEFT JOIN LATERAL (
      SELECT count(*) FILTER (WHERE t.cancelled_at IS NULL) AS standing,
        (array_agg(t.id ORDER BY t.cancelled_at DESC NULLS FIRST, t.id DESC))[1] AS usage_id
      FROM usages t WHERE a.user_coupon_id IS NOT NULL AND t.user_coupon_id = a.user_coupon_id AND t.user_id = a.user_id
    ) one ON true
    LEFT JOIN usages s ON s.id = coalesce(earlier.usage_id, a.usage_id, one.usage_id) AND s.user_id = a.user_id
    LEFT JOIN user_coupons u ON u.id = s.user_coupon_id
  ),
  checked AS MATERIALIZED (
    SELECT f.ord, f.call_id, f.input_hash, f.id, f.user_coupon_id, f.coupon_id, f.user_id, f.product_id, f.order_id,
      f.currency_code, f.order_amount, f.discount_amount, f.discounted_before, f.used_at, f.cancelled_at, f.of_deleted, f.was_used_up,
      f.code, f.held_code, f.coupon_name, f.coupon_type, f.labels,
      coalesce(f.outcome, CASE
        WHEN row_number() OVER (PARTITION BY f.id, f.outcome IS NULL ORDER BY f.ord) > 1 THEN 'CONFLICT'
      END) AS outcome
    FROM found f
  ),
  recorded AS (
    INSERT INTO requests (method, request_id, input_hash, answer, created_at)
    SELECT this_method, o.call_id, o.input_hash, jsonb_build_object('usageId', o.id), at
    FROM checked o WHERE o.outcome IS NULL
    ORDER BY o.call_id
    ON CONFLICT DO NOTHING
    RETURNING request_id
  ),
  -- A hashed subplan: joins of the two would be nested loops over the whole batch.
  done AS MATERIALIZED (
    SELECT o.*, o.outcome IS NULL AND o.call_id IN (SELECT r.request_id FROM recorded r) AS cancelled FROM checked o
  ),
  cancelled AS (
    UPDATE usages s SET cancelled_at = at FROM done d WHERE s.id = d.id AND d.cancelled
  ),
  unused AS (
    UPDATE user_coupons u SET
      use_count = u.use_count - i.n, place_count = u.place_count - CASE WHEN u.deleted_at IS NULL THEN 0 ELSE i.n END,
      lapse_at = CASE WHEN u.deleted_at IS NULL AND NOT u.lapsed THEN u.valid_until END
    FROM (SELECT d.user_coupon_id, count(*)::int AS n FROM done d WHERE d.cancelled GROUP BY d.user_coupon_id) i
    WHERE u.id = i.user_coupon_id
  ),
  counted AS (
    UPDATE coupons c SET
      used_count = c.used_count - i.n, place_count = c.place_count - i.freed, cancelled_total = c.cancelled_total + i.n,
      -- What is deleted was taken out of the count then.
      used_up_count = c.used_up_count - i.not_used_up
    FROM (
      SELECT d.coupon_id, count(*) AS n, count(*) FILTER (WHERE d.of_deleted) AS freed,
        count(DISTINCT d.user_coupon_id) FILTER (WHERE d.was_used_up AND NOT d.of_deleted) AS not_used_up
      FROM done d WHERE d.cancelled
      GROUP BY d.coupon_id
    ) i
    WHERE c.id = i.coupon_id
  ),
  logged AS (
    INSERT INTO events (kind, happened_at, coupon_id, user_coupon_id, user_id, usage_id)
    SELECT 'USAGE_CANCELLED', at, d.coupon_id, d.user_coupon_id, d.user_id, d.id FROM done d WHERE d.cancelled ORDER BY d.ord
  )
  SELECT
    CASE WHEN d.outcome IS NOT NULL THEN d.outcome WHEN d.cancelled THEN 'CANCELLED' ELSE 'CONFLICT' END,
    -- By an earlier call whose answer was lost, perhaps; it does no harm to say so twice.
    coalesce(d.of_deleted AND (d.cancelled OR (again AND d.outcome = 'REPLAYED')), false),
    d.id, d.user_coupon_id, d.coupon_id, d.user_id, d.product_id, d.order_id, d.currency_code::text, d.order_amount,
    d.discount_amount, d.discounted_before, millis(d.used_at), millis(CASE WHEN d.cancelled THEN at ELSE d.cancelled_at END),
    -- A release that stored neither of these three nor labels has left the name null: then they are what they are now.
    coalesce(d.code, d.held_code), coalesce(d.coupon_name, c.name), CASE WHEN d.coupon_name IS NULL THEN c.type ELSE d.coupon_type END,
    d.labels, d.coupon_name IS NOT NULL
  FROM done d
  LEFT JOIN coupons c ON c.id = d.coupon_id AND d.coupon_name IS NULL
  ORDER BY d.ord;
END
$$;
