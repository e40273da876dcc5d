-- Issues a batch of user coupons: one call is one transaction and one round trip.
--
-- No two rows of a batch may have the same (coupon, user) or the same request id, and either all of them name a code of a
-- code book or none does; the caller sees to that. Each row gets one outcome, and no row's outcome harms another row.
-- `have_tickets` says which rows the gate let through with a ticket of a throttled coupon, `patience_ms` how long after this call
-- each may still be decided (null: for ever), `item_labels` what is kept with each (null: nothing with any), `item_types` of which type
-- its coupon must be (null: any type), `time_zone` where a quota's days begin.
-- `again` says that some of the rows may have been committed by an earlier call whose answer was lost:
--   ISSUED             it is inserted, or was by an earlier call with the same id
--   REPLAYED           the same request had issued it before; `id` is that user coupon
--   CONFLICT           a transaction at the same moment used this request id: ask again
--   OTHER_TYPE         the coupon is not of the type that the row asks for, or not any more
--   TOO_LATE           its locks took longer than its patience: whoever asked was told otherwise by now
--   BEHIND             another row of the batch comes first, and what is left hangs on what becomes of it: ask again
--   REQUEST_ID_REUSED, COUPON_NOT_FOUND, COUPON_PAUSED, COUPON_NOT_STARTED, COUPON_ENDED, USAGE_CAP_REACHED,
--   ALREADY_ISSUED, QUOTA_REACHED, CODE_NOT_FOUND, CODE_EXPIRED
--                      refused, the first that applies in this order
--   TICKET_NEEDED      the coupon is throttled, and the row has no ticket
--   SOLD_OUT, CODE_TAKEN
--                      refused: no stock, or no free seat of the code that was named
--
-- The coupons are locked in the order of their ids, so that two batches cannot deadlock on them, and then the quota days in
-- the order of their keys, and requests in the order of their ids. What is read after the locks is read by a later statement, which sees all that was committed
-- before they were granted.
CREATE OR REPLACE FUNCTION issue_user_coupons(
  item_ids uuid[], item_coupon_ids uuid[], item_user_ids text[], item_request_ids text[], item_code_ids bigint[],
  have_tickets boolean[], patience_ms int[], item_labels jsonb[], item_types text[], time_zone text, again boolean
) RETURNS TABLE (
  outcome text, id uuid, issued_at_ms bigint, valid_until_ms bigint, expires_at_ms bigint, claim_until_ms bigint, max_uses int,
  code text, discount jsonb
)
LANGUAGE plpgsql VOLATILE
-- The plans are cached while the tables are still small; nested loops over the indexes are right at every size.
SET enable_seqscan = off
SET plan_cache_mode = force_generic_plan
SET enable_hashjoin = off
SET enable_mergejoin = off
AS $$
#variable_conflict use_column
DECLARE
  at timestamptz;
  waited_ms int;
  today date;
  with_quota boolean;
  books uuid[];
  lapsed_ids uuid[];
  -- Free codes for the rows of each book: those of books[i] stand in picked[first[i] + 1] to picked[first[i] + free[i]].
  picked bigint[];
  first int[];
  free int[];
BEGIN
  PERFORM lock_coupons(item_coupon_ids);
  at := coupon_clock();
  waited_ms := date_part('epoch', clock_timestamp() - statement_timestamp()) * 1000;
  today := (at AT TIME ZONE time_zone)::date;
  SELECT bool_or(c.quota_group IS NOT NULL), array_agg(c.id ORDER BY c.id) FILTER (WHERE c.is_code_book)
  INTO with_quota, books
  FROM coupons c WHERE c.id = ANY (item_coupon_ids);

  IF with_quota THEN
    INSERT INTO quota_days (quota_group, user_id, day, issued_count)
    SELECT DISTINCT c.quota_group, a.user_id, today, 0
    FROM unnest(item_coupon_ids, item_user_ids) AS a (coupon_id, user_id) JOIN coupons c ON c.id = a.coupon_id
    WHERE c.quota_group IS NOT NULL
    ORDER BY c.quota_group, a.user_id
    -- Locks those that are there, by the key itself: a join may be planned by another index.
    ON CONFLICT (quota_group, user_id, day) DO UPDATE SET issued_count = quota_days.issued_count;
  END IF;

  -- A user coupon whose validity has run out gives up the slot. Not a join with the table, which could go through all of it.
  lapsed_ids := array(
    SELECT held.id FROM unnest(item_coupon_ids, item_user_ids) AS a (coupon_id, user_id) CROSS JOIN LATERAL (
      SELECT u.id FROM user_coupons u
      WHERE u.coupon_id = a.coupon_id AND u.user_id = a.user_id AND u.slot IS NOT NULL AND u.valid_until <= at
      OFFSET 0
    ) held
  );
  IF lapsed_ids <> '{}' THEN UPDATE user_coupons u SET slot = NULL WHERE u.id = ANY (lapsed_ids); END IF;

  IF books IS NOT NULL THEN
    SELECT array_agg(k.id ORDER BY b.i, k.ordinal) FILTER (WHERE k.id IS NOT NULL) INTO picked
    FROM unnest(books) WITH ORDINALITY AS b (id, i) CROSS JOIN LATERAL (
      SELECT one.id, row_number() OVER (ORDER BY one.pick_key, one.id) AS ordinal
      FROM (
        SELECT k.id, k.pick_key, generate_series(1, least(k.max_holders - k.holder_count, cardinality(item_ids)))
        FROM codes k
        -- A range of codes_free, and not from its beginning: there are the entries of all that were taken, until they are
        -- vacuumed away.
        WHERE (k.coupon_id, k.pick_key) >= (b.id, (SELECT c.free_from FROM coupons c WHERE c.id = b.id)) AND k.coupon_id <= b.id
          AND k.holder_count < k.max_holders AND k.retired_at IS NULL AND (k.expires_at IS NULL OR k.expires_at > at)
        ORDER BY k.coupon_id, k.pick_key
        LIMIT (SELECT count(*) FROM unnest(item_coupon_ids) one (coupon_id) WHERE one.coupon_id = b.id)
      ) one
    ) k;
    SELECT array_agg(n.free ORDER BY n.i), array_agg(n.before ORDER BY n.i) INTO free, first
    FROM (
      SELECT b.i, count(k.id)::int AS free, (sum(count(k.id)) OVER (ORDER BY b.i) - count(k.id))::int AS before
      FROM unnest(books) WITH ORDINALITY AS b (id, i)
      LEFT JOIN (SELECT k.id, k.coupon_id FROM unnest(picked) p (id) JOIN codes k ON k.id = p.id) k ON k.coupon_id = b.id
      GROUP BY b.i
    ) n;
  END IF;

  RETURN QUERY
  WITH checked AS (
    SELECT
      a.ord, a.id, a.coupon_id, a.user_id, a.request_id, a.labels, a.code_id AS wanted_code_id, c.expires_at, c.max_per_user, held.slots,
      CASE WHEN earlier.id IS NULL THEN c.max_uses ELSE earlier.max_uses END AS max_uses,
      CASE WHEN earlier.id IS NULL THEN at + c.claim_window_ms * interval '1 millisecond' ELSE earlier.claim_until END AS claim_until,
      at + c.validity_after_issue_ms * interval '1 millisecond' AS valid_until,
      c.quantity - c.issued_count AS stock, array_position(books, c.id) AS book, c.quota_group,
      wanted.max_holders - wanted.holder_count AS free_seats,
      CASE WHEN c.quota_group IS NOT NULL THEN c.quota_per_day - q.issued_count END AS quota_left,
      earlier.id AS earlier_id, earlier.issued_at AS earlier_issued_at, earlier.valid_until AS earlier_valid_until,
      earlier.code AS earlier_code, earlier.discount AS earlier_discount,
      CASE
        WHEN earlier.id = a.id THEN 'ISSUED'
        WHEN earlier.coupon_id = a.coupon_id AND earlier.user_id = a.user_id
          AND (a.code_id IS NULL OR a.code_id = earlier.code_id) THEN 'REPLAYED'
        WHEN earlier.id IS NOT NULL THEN 'REQUEST_ID_REUSED'
        WHEN waited_ms >= a.patience_ms THEN 'TOO_LATE'
        WHEN c.id IS NULL OR c.deleted_at IS NOT NULL THEN 'COUPON_NOT_FOUND'
        WHEN a.type <> coalesce(c.type, '') THEN 'OTHER_TYPE'
        WHEN c.paused_at IS NOT NULL THEN 'COUPON_PAUSED'
        WHEN at < c.starts_at THEN 'COUPON_NOT_STARTED'
        WHEN at >= c.expires_at THEN 'COUPON_ENDED'
        WHEN c.exhausted_at IS NOT NULL THEN 'USAGE_CAP_REACHED'
        WHEN cardinality(held.slots) >= c.max_per_user THEN 'ALREADY_ISSUED'
        WHEN q.issued_count >= c.quota_per_day THEN 'QUOTA_REACHED'
        WHEN a.code_id IS NOT NULL AND wanted.id IS NULL THEN 'CODE_NOT_FOUND'
        WHEN wanted.retired_at IS NOT NULL OR wanted.expires_at <= at THEN 'CODE_EXPIRED'
        WHEN c.throttle_per_second IS NOT NULL AND NOT a.has_ticket THEN 'TICKET_NEEDED'
      END AS outcome
    FROM unnest(item_ids, item_coupon_ids, item_user_ids, item_request_ids, item_code_ids, have_tickets, patience_ms, item_labels,
      item_types)
      WITH ORDINALITY AS a (id, coupon_id, user_id, request_id, code_id, has_ticket, patience_ms, labels, type, ord)
    LEFT JOIN coupons c ON c.id = a.coupon_id
    LEFT JOIN LATERAL (
      SELECT q.issued_count FROM quota_days q
      WHERE with_quota AND q.quota_group = c.quota_group AND q.user_id = a.user_id AND q.day = today OFFSET 0
    ) q ON true
    LEFT JOIN codes wanted ON wanted.id = a.code_id AND wanted.coupon_id = a.coupon_id
    LEFT JOIN LATERAL (
      SELECT u.* FROM user_coupons u WHERE again AND u.id = a.id
      UNION ALL
      SELECT u.* FROM user_coupons u WHERE u.request_id = a.request_id AND u.request_id IS NOT NULL
      LIMIT 1
    ) earlier ON true
    -- OFFSET 0: it is asked for several times, and would be read for each of them.
    CROSS JOIN LATERAL (
      SELECT array(
        SELECT u.slot FROM user_coupons u
        WHERE u.coupon_id = a.coupon_id AND u.user_id = a.user_id AND u.slot IS NOT NULL
      ) AS slots
      OFFSET 0
    ) held
  ),
  -- Of one user's rows under one quota, those past what is left of it wait for what becomes of the ones before.
  queued AS (
    SELECT o.*, coalesce(o.outcome, CASE
      WHEN row_number() OVER (PARTITION BY o.quota_group, o.user_id, o.outcome IS NULL ORDER BY o.ord) > o.quota_left THEN 'BEHIND'
    END) AS outcome_2
    FROM checked o
  ),
  -- First come, first served: of the rows that nothing else speaks against, those that their code has a seat for, and of
  -- these the ones that the stock reaches. Who wants a code that is taken keeps nobody from another.
  seated AS (
    SELECT o.*, (o.wanted_code_id IS NULL OR
      row_number() OVER (PARTITION BY o.coupon_id, o.wanted_code_id, o.outcome_2 IS NULL ORDER BY o.ord) <= o.free_seats) AS has_seat
    FROM queued o
  ),
  ranked AS (
    SELECT o.*, row_number() OVER (PARTITION BY o.coupon_id, o.outcome_2 IS NULL AND o.has_seat ORDER BY o.ord) AS ordinal
    FROM seated o
  ),
  chosen AS MATERIALIZED (
    SELECT r.*,
      r.outcome_2 IS NULL AND r.has_seat AND (r.ordinal <= r.stock) IS NOT FALSE
        AND (r.wanted_code_id IS NOT NULL OR (r.ordinal <= free[r.book]) IS NOT FALSE)
        AS in_stock,
      CASE
        WHEN r.outcome_2 IS NOT NULL THEN NULL
        WHEN r.wanted_code_id IS NOT NULL THEN r.wanted_code_id
        WHEN r.ordinal <= free[r.book] THEN picked[first[r.book] + r.ordinal]
      END AS code_id
    FROM ranked r
  ),
  -- What the code has of its own.
  termed AS MATERIALIZED (
    SELECT n.*, k.code, k.discount,
      least(n.valid_until, k.expires_at) AS own_valid_until, coalesce(k.max_uses, n.max_uses) AS own_max_uses
    FROM chosen n LEFT JOIN codes k ON k.id = n.code_id AND n.in_stock
  ),
  inserted AS (
    INSERT INTO user_coupons (id, coupon_id, user_id, slot, request_id, issued_at, valid_until, max_uses, claim_until,
      code_id, code, discount, lapse_at, labels)
    SELECT
      n.id, n.coupon_id, n.user_id,
      CASE WHEN n.slots = '{}' THEN 1
        ELSE (SELECT min(s) FROM generate_series(1, n.max_per_user) s WHERE s <> ALL (n.slots)) END,
      n.request_id, at, n.own_valid_until, n.own_max_uses, n.claim_until, n.code_id, n.code, n.discount, n.own_valid_until,
      n.labels
    FROM termed n WHERE n.in_stock
    -- Of the same coupon or not: a batch that waits for a request of another one has none that the other one waits for.
    ORDER BY n.request_id COLLATE "C"
    ON CONFLICT DO NOTHING
    RETURNING id, coupon_id, user_id, code_id
  ),
  counted AS (
    UPDATE coupons c SET issued_count = c.issued_count + i.n, issued_total = c.issued_total + i.n,
      free_from = coalesce((SELECT k.pick_key FROM codes k WHERE k.id = picked[first[array_position(books, c.id)] + 1]
        AND free[array_position(books, c.id)] > 0), c.free_from)
    FROM (SELECT coupon_id, count(*) AS n FROM inserted GROUP BY coupon_id) i
    WHERE c.id = i.coupon_id
  ),
  taken AS (
    UPDATE codes k SET holder_count = k.holder_count + i.n
    FROM (SELECT code_id, count(*) AS n FROM inserted WHERE code_id IS NOT NULL GROUP BY code_id) i
    WHERE k.id = i.code_id
  ),
  spent AS (
    INSERT INTO quota_days (quota_group, user_id, day, issued_count)
    SELECT c.quota_group, i.user_id, today, count(*)
    FROM inserted i JOIN coupons c ON c.id = i.coupon_id
    WHERE with_quota AND c.quota_group IS NOT NULL
    GROUP BY c.quota_group, i.user_id
    ON CONFLICT (quota_group, user_id, day) DO UPDATE SET issued_count = quota_days.issued_count + excluded.issued_count
  ),
  logged AS (
    INSERT INTO events (kind, happened_at, coupon_id, user_coupon_id, user_id)
    SELECT 'USER_COUPON_ISSUED', at, i.coupon_id, i.id, i.user_id FROM inserted i
  ),
  -- A hashed subplan: a join of these would be a nested loop over the whole batch.
  done AS (
    SELECT t.*, t.in_stock AND t.id NOT IN (SELECT i.id FROM inserted i) AS in_conflict FROM termed t
  )
  SELECT
    CASE
      WHEN n.outcome_2 IS NOT NULL THEN n.outcome_2
      WHEN n.in_conflict THEN 'CONFLICT'
      WHEN n.in_stock THEN 'ISSUED'
      -- What was meant for the other may be left.
      WHEN bool_or(n.in_conflict) OVER (PARTITION BY n.coupon_id) THEN 'BEHIND'
      WHEN n.has_seat THEN 'SOLD_OUT'
      ELSE 'CODE_TAKEN'
    END,
    coalesce(n.earlier_id, n.id),
    millis(coalesce(n.earlier_issued_at, at)),
    millis(CASE WHEN n.earlier_id IS NULL THEN n.own_valid_until ELSE n.earlier_valid_until END),
    millis(n.expires_at), millis(n.claim_until), n.own_max_uses,
    coalesce(n.code, n.earlier_code), coalesce(n.discount, n.earlier_discount)
  FROM done n
  ORDER BY n.ord;
END
$$;
