-- Issues a batch of user coupons: one call is one transaction and one round trip.
--
-- No two rows of a batch may have the same (coupon, user) or the same request id; the caller sees to that. Each row gets
-- one outcome, and no row's outcome harms another row. `again` says that some of the rows may have been committed by an
-- earlier call whose answer was lost:
--   ISSUED             it is inserted, or was by an earlier call with the same id
--   REPLAYED           the same request had issued it before; `id` is that user coupon
--   CONFLICT           a transaction at the same moment used this request id: ask again
--   REQUEST_ID_REUSED, COUPON_NOT_FOUND, COUPON_PAUSED, COUPON_NOT_STARTED, COUPON_ENDED, USAGE_CAP_REACHED,
--   ALREADY_ISSUED, SOLD_OUT
--                      refused, the first that applies in this order
--
-- The coupons are locked in the order of their ids, so that two batches cannot deadlock on them. What is read after the
-- lock is read by a later statement, which sees all that was committed before the lock was granted.
CREATE OR REPLACE FUNCTION issue_user_coupons(
  ask_ids uuid[], ask_coupon_ids uuid[], ask_user_ids text[], ask_request_ids text[], again boolean
) RETURNS TABLE (
  outcome text, id uuid, issued_at_ms bigint, valid_until_ms bigint, expires_at_ms bigint, claim_until_ms bigint, max_uses int
)
LANGUAGE plpgsql VOLATILE
-- The plans are cached while the tables are still small; nested loops over the indexes are right at every size.
SET enable_seqscan = off
SET enable_hashjoin = off
SET enable_mergejoin = off
AS $$
#variable_conflict use_column
DECLARE
  at timestamptz;
BEGIN
  PERFORM FROM coupons c WHERE c.id = ANY (ask_coupon_ids) ORDER BY c.id FOR NO KEY UPDATE;
  at := coupon_clock();

  -- A holder whose validity has run out gives up the slot.
  UPDATE user_coupons u SET slot = NULL
  FROM unnest(ask_coupon_ids, ask_user_ids) AS a (coupon_id, user_id)
  WHERE u.coupon_id = a.coupon_id AND u.user_id = a.user_id AND u.slot IS NOT NULL AND u.valid_until <= at;

  RETURN QUERY
  WITH judged AS (
    SELECT
      a.ord, a.id, a.coupon_id, a.user_id, a.request_id, c.expires_at, c.max_per_user, held.slots,
      CASE WHEN earlier.id IS NULL THEN c.max_uses ELSE earlier.max_uses END AS max_uses,
      CASE WHEN earlier.id IS NULL THEN at + c.claim_window_ms * interval '1 millisecond' ELSE earlier.claim_until END AS claim_until,
      at + c.validity_after_issue_ms * interval '1 millisecond' AS valid_until,
      c.quantity - c.issued_count AS remaining,
      earlier.id AS earlier_id, earlier.issued_at AS earlier_issued_at, earlier.valid_until AS earlier_valid_until,
      CASE
        WHEN earlier.id = a.id THEN 'ISSUED'
        WHEN earlier.coupon_id = a.coupon_id AND earlier.user_id = a.user_id THEN 'REPLAYED'
        WHEN earlier.id IS NOT NULL THEN 'REQUEST_ID_REUSED'
        WHEN c.id IS NULL OR c.deleted_at IS NOT NULL THEN 'COUPON_NOT_FOUND'
        WHEN c.paused_at IS NOT NULL THEN 'COUPON_PAUSED'
        WHEN at < c.starts_at THEN 'COUPON_NOT_STARTED'
        WHEN at >= c.expires_at THEN 'COUPON_ENDED'
        WHEN c.exhausted_at IS NOT NULL THEN 'USAGE_CAP_REACHED'
        WHEN cardinality(held.slots) >= c.max_per_user THEN 'ALREADY_ISSUED'
      END AS verdict
    FROM unnest(ask_ids, ask_coupon_ids, ask_user_ids, ask_request_ids)
      WITH ORDINALITY AS a (id, coupon_id, user_id, request_id, ord)
    LEFT JOIN coupons c ON c.id = a.coupon_id
    LEFT JOIN LATERAL (
      SELECT u.id, u.coupon_id, u.user_id, u.issued_at, u.valid_until, u.max_uses, u.claim_until FROM user_coupons u
      WHERE again AND u.id = a.id
      UNION ALL
      SELECT u.id, u.coupon_id, u.user_id, u.issued_at, u.valid_until, u.max_uses, u.claim_until FROM user_coupons u
      WHERE u.request_id = a.request_id AND u.request_id IS NOT NULL
      LIMIT 1
    ) earlier ON true
    CROSS JOIN LATERAL (
      SELECT array(
        SELECT u.slot FROM user_coupons u
        WHERE u.coupon_id = a.coupon_id AND u.user_id = a.user_id AND u.slot IS NOT NULL
      ) AS slots
    ) held
  ),
  -- First come, first served: of the rows that nothing else speaks against, those that the stock reaches.
  chosen AS MATERIALIZED (
    SELECT j.*, j.verdict IS NULL AND (
      row_number() OVER (PARTITION BY j.coupon_id, j.verdict IS NULL ORDER BY j.ord) <= j.remaining
    ) IS NOT FALSE AS in_stock
    FROM judged j
  ),
  inserted AS (
    INSERT INTO user_coupons (id, coupon_id, user_id, slot, request_id, issued_at, valid_until, max_uses, claim_until)
    SELECT
      n.id, n.coupon_id, n.user_id,
      CASE WHEN n.slots = '{}' THEN 1
        ELSE (SELECT min(s) FROM generate_series(1, n.max_per_user) s WHERE s <> ALL (n.slots)) END,
      n.request_id, at, n.valid_until, n.max_uses, n.claim_until
    FROM chosen n WHERE n.in_stock
    ORDER BY n.coupon_id, n.user_id
    ON CONFLICT DO NOTHING
    RETURNING id, coupon_id, user_id
  ),
  counted AS (
    UPDATE coupons c SET issued_count = c.issued_count + i.n
    FROM (SELECT coupon_id, count(*) AS n FROM inserted GROUP BY coupon_id) i
    WHERE c.id = i.coupon_id
  ),
  logged AS (
    INSERT INTO events (kind, happened_at, coupon_id, user_coupon_id, user_id)
    SELECT 'USER_COUPON_ISSUED', at, i.coupon_id, i.id, i.user_id FROM inserted i
  )
  -- A hashed subplan: a join of these would be a nested loop over the whole batch.
  SELECT
    CASE
      WHEN n.verdict IS NOT NULL THEN n.verdict
      WHEN NOT n.in_stock THEN 'SOLD_OUT'
      WHEN n.id IN (SELECT i.id FROM inserted i) THEN 'ISSUED'
      ELSE 'CONFLICT'
    END,
    coalesce(n.earlier_id, n.id),
    millis(coalesce(n.earlier_issued_at, at)),
    millis(CASE WHEN n.earlier_id IS NULL THEN n.valid_until ELSE n.earlier_valid_until END),
    millis(n.expires_at), millis(n.claim_until), n.max_uses
  FROM chosen n
  ORDER BY n.ord;
END
$$;
