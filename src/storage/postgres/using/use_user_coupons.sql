-- Uses a batch of user coupons: one call is one transaction and one round trip. With `together` the batch is one order,
-- all or none; otherwise each item stands alone, and no item's outcome harms another.
--
-- No two items of a batch may carry the same request id or be of one user's same order unless they are `together`; those are of
-- one order, and must be of different user coupons. `again` says that some of the items may have been committed by an earlier call whose answer was lost.
--   USED               it is inserted, or was by an earlier call with the same usage id; `placed` says that it took a new
--                      place under the usage cap
--   REPLAYED           the same request had used it before; `id` is that usage
--   CONFLICT           a transaction at the same moment used this request id: ask again
--   STALE              since the discount was computed the coupon's definition has changed, or what stands of the order, which
--                      `order_mark` names
--   TOO_LATE           its locks took longer than its `patience_ms` (null: for ever): whoever asked was told otherwise by now
--   CONSENT            nothing speaks against it, but against another one of the order
--   USER_COUPON_NOT_FOUND, or a reason of usage_refusal(): refused
--
-- Whatever changes a user coupon locks its coupon first, and coupons are locked in the order of their ids: so nothing
-- changes it meanwhile, and nothing can deadlock. Orders are locked after them: see lock_orders(). What is read after the lock is read by a later statement, which sees all
-- that was committed before the lock was granted, and so is the clock.
CREATE OR REPLACE FUNCTION use_user_coupons(coupon_ids uuid[], items json, together boolean, again boolean)
RETURNS TABLE (outcome text, id uuid, used_at_ms bigint, placed boolean, exhausted boolean)
LANGUAGE plpgsql VOLATILE
-- With plans of its own for each call, planning would take longer than the work. They are cached while the tables are still small;
-- nested loops over the indexes are right at every size.
SET enable_seqscan = off
SET plan_cache_mode = force_generic_plan
SET enable_hashjoin = off
SET enable_mergejoin = off
AS $$
#variable_conflict use_column
DECLARE
  at timestamptz;
  waited_ms int;
  stored int;
BEGIN
  PERFORM lock_coupons(coupon_ids);
  PERFORM lock_orders(items);
  at := coupon_clock();
  waited_ms := date_part('epoch', clock_timestamp() - statement_timestamp()) * 1000;

  RETURN QUERY
  WITH asked AS (
    SELECT row_number() OVER () AS ord, a.*
    FROM json_to_recordset(items) AS a (
      id uuid, user_coupon_id uuid, coupon_id uuid, user_id text, lock_version bigint, revision bigint, updated_ms bigint, product_id text,
      order_id text, currency_code char(3), order_amount bigint, discount_amount bigint, discounted_before bigint, order_mark text,
      request_id text, item smallint,
      patience_ms int, labels jsonb
    )
  ),
  -- Once: the rank asks whether there is an outcome, and the rest which one it is.
  checked AS MATERIALIZED (
    SELECT
      a.*, u.use_count, u.place_count, u.max_uses, u.code, c.name AS coupon_name, c.type AS coupon_type,
      -- A place that was freed after the cap had been reached is nobody's.
      CASE WHEN c.exhausted_at IS NULL THEN c.usage_cap - c.place_count ELSE 0 END AS cap_left,
      -- Under a lock one use, which spends it.
      CASE WHEN u.locked_until > at THEN 1 ELSE u.max_uses - u.use_count END AS remaining_uses,
      u.locked_until > at AS locked,
      earlier.id AS earlier_id, earlier.used_at AS earlier_used_at,
      CASE
        WHEN earlier.id = a.id THEN 'USED'
        WHEN earlier.id IS NOT NULL THEN 'REPLAYED'
        WHEN waited_ms >= a.patience_ms THEN 'TOO_LATE'
        WHEN u.id IS NULL OR u.user_id <> a.user_id OR u.deleted_at IS NOT NULL THEN 'USER_COUPON_NOT_FOUND'
        -- A standby that is promoted without the last edit gives its revision to another one.
        WHEN c.revision <> a.revision OR millis(date_trunc('milliseconds', c.updated_at)) <> a.updated_ms THEN 'STALE'
        WHEN a.order_mark <> (SELECT o.mark FROM standing_uses(a.user_id, a.order_id) o) THEN 'STALE'
        ELSE usage_refusal(u, c, a.lock_version, at)
      END AS outcome
    FROM asked a
    LEFT JOIN user_coupons u ON u.id = a.user_coupon_id AND u.coupon_id = a.coupon_id
    LEFT JOIN coupons c ON c.id = u.coupon_id
    LEFT JOIN LATERAL (
      SELECT s.id, s.used_at FROM usages s WHERE again AND s.id = a.id
      UNION ALL
      SELECT s.id, s.used_at FROM usages s
      WHERE s.request_id = a.request_id AND s.item = a.item AND s.request_id IS NOT NULL
      LIMIT 1
    ) earlier ON true
  ),
  -- First come, first served, first among the items of one user coupon, then under the coupon's usage cap.
  ranked AS (
    SELECT o.*, row_number() OVER (PARTITION BY o.user_coupon_id, o.outcome IS NULL ORDER BY o.ord) AS ordinal FROM checked o
  ),
  placed AS (
    SELECT
      r.*,
      coalesce(r.outcome, CASE WHEN r.ordinal > r.remaining_uses
        THEN CASE WHEN r.locked THEN 'LOCK_LOST' ELSE 'ALREADY_USED' END END) AS outcome_2,
      r.use_count + r.ordinal > r.place_count AS needs_place
    FROM ranked r
  ),
  capped AS (
    SELECT
      p.*,
      coalesce(p.outcome_2, CASE
        WHEN p.needs_place AND row_number() OVER (
          PARTITION BY p.coupon_id, p.outcome_2 IS NULL AND p.needs_place ORDER BY p.ord
        ) > p.cap_left THEN 'USAGE_CAP_REACHED'
      END) AS outcome_3
    FROM placed p
  ),
  -- Where the cap stood in the way of an earlier item of the same user coupon, that is not used up, nor its lock spent.
  settled AS (
    SELECT
      k.*,
      CASE
        WHEN k.outcome IS NULL AND k.ordinal > k.remaining_uses
          AND bool_or(k.outcome_3 = 'USAGE_CAP_REACHED') OVER (PARTITION BY k.user_coupon_id, k.outcome IS NULL)
          THEN 'USAGE_CAP_REACHED'
        ELSE k.outcome_3
      END AS outcome_4
    FROM capped k
  ),
  chosen AS MATERIALIZED (
    SELECT s.*, s.outcome_4 IS NULL AND NOT (together AND bool_or(s.outcome_4 IS NOT NULL) OVER ()) AS taken FROM settled s
  ),
  inserted AS (
    INSERT INTO usages (id, user_coupon_id, coupon_id, user_id, product_id, order_id, currency_code, order_amount,
      discount_amount, discounted_before, request_id, item, used_at, code, coupon_name, coupon_type, labels)
    SELECT n.id, n.user_coupon_id, n.coupon_id, n.user_id, n.product_id, n.order_id, n.currency_code, n.order_amount,
      n.discount_amount, n.discounted_before, n.request_id, n.item, at, n.code, n.coupon_name, n.coupon_type, n.labels
    FROM chosen n WHERE n.taken
    ON CONFLICT DO NOTHING
    RETURNING id
  ),
  -- A hashed subplan: joins of the two would be nested loops over the whole batch.
  done AS MATERIALIZED (
    SELECT n.*, n.id IN (SELECT i.id FROM inserted i) AS stored FROM chosen n
  ),
  used AS (
    UPDATE user_coupons u SET
      use_count = u.use_count + i.n, place_count = greatest(u.place_count, u.use_count + i.n),
      locked_until = NULL, lock_token = NULL, claim_until = NULL,
      lapse_at = CASE WHEN u.use_count + i.n < u.max_uses THEN u.lapse_at END
    FROM (SELECT d.user_coupon_id, count(*)::int AS n FROM done d WHERE d.stored GROUP BY d.user_coupon_id) i
    WHERE u.id = i.user_coupon_id
  ),
  counted AS (
    UPDATE coupons c SET
      used_count = c.used_count + i.uses, place_count = c.place_count + i.places,
      used_up_count = c.used_up_count + i.used_up, placed_holder_count = c.placed_holder_count + i.first_placed,
      exhausted_at = CASE WHEN i.places > 0 AND c.place_count + i.places >= c.usage_cap THEN at ELSE c.exhausted_at END
    FROM (
      SELECT one.coupon_id, sum(one.n) AS uses, sum(greatest(0, one.n - (one.places - one.uses))) AS places,
        count(*) FILTER (WHERE one.uses + one.n >= one.max_uses) AS used_up,
        count(*) FILTER (WHERE one.places = 0) AS first_placed
      FROM (
        SELECT d.coupon_id, count(*) AS n, min(d.use_count) AS uses, min(d.place_count) AS places, min(d.max_uses) AS max_uses
        FROM done d WHERE d.stored
        GROUP BY d.coupon_id, d.user_coupon_id
      ) one
      GROUP BY one.coupon_id
    ) i
    WHERE c.id = i.coupon_id
    RETURNING c.id, i.places > 0 AND c.place_count >= c.usage_cap AS exhausted
  ),
  exhaustions AS (
    SELECT c.id FROM counted c WHERE c.exhausted
  ),
  logged AS (
    INSERT INTO events (kind, happened_at, coupon_id, user_coupon_id, user_id, usage_id)
    SELECT 'USER_COUPON_USED', at, d.coupon_id, d.user_coupon_id, d.user_id, d.id FROM done d WHERE d.stored
    UNION ALL
    SELECT 'COUPON_EXHAUSTED', at, x.id, NULL, NULL, NULL FROM exhaustions x
  )
  SELECT
    CASE
      WHEN n.outcome_4 IS NOT NULL THEN n.outcome_4
      WHEN NOT n.taken THEN 'CONSENT'
      WHEN n.stored THEN 'USED'
      ELSE 'CONFLICT'
    END,
    coalesce(n.earlier_id, n.id),
    millis(coalesce(n.earlier_used_at, at)),
    n.stored AND n.needs_place,
    n.coupon_id IN (SELECT x.id FROM exhaustions x)
  FROM done n
  ORDER BY n.ord;

  -- A call with the same request id, begun at the same moment, took some of the index entries that this order needs.
  IF together THEN
    SELECT count(*) INTO stored
    FROM usages s WHERE s.id IN (SELECT a.id FROM json_to_recordset(items) AS a (id uuid));
    IF stored NOT IN (0, json_array_length(items)) THEN
      RAISE EXCEPTION 'an order was used in part' USING ERRCODE = 'serialization_failure';
    END IF;
  END IF;
END
$$;
