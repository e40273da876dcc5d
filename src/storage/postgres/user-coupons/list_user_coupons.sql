-- Pages of what users hold, the newest first, one row for each of `items` in order: {"userId", "before", "size", "statuses"}. `rows` has
-- one line for all user coupons of a page: values without spaces, with spaces between them; what few user coupons have is
-- left out of the text of the others. The first row has `coupons`: every coupon of all the pages.
--
-- With `filtered` only those are wanted whose status is among `statuses`. Then at most `most_looked` user coupons are looked at for a page;
-- when that did not fill it, `looked_to` is the last of them: the list goes on after it. null: nothing is behind the page.
--
-- A page is a range of user_coupons_of_user, and no more is read of it than the page has. For no plan can read less in this
-- order without a sort: the order begins with the user's id, and as a range and not as an equation, or the planner would
-- leave it out of the order and could walk through the user coupons of all users by their primary key.
CREATE OR REPLACE FUNCTION list_user_coupons(items json, filtered boolean, most_looked int)
RETURNS TABLE (rows text, looked_to uuid, now_ms bigint, coupons text)
LANGUAGE plpgsql VOLATILE
-- The plans are cached while the tables are still small; these are right at every size.
SET enable_seqscan = off
SET enable_bitmapscan = off
SET enable_sort = off
SET enable_incremental_sort = off
SET enable_hashjoin = off
SET enable_mergejoin = off
SET plan_cache_mode = force_generic_plan
AS $$
#variable_conflict use_column
DECLARE
  max_items CONSTANT int := 32;
  last CONSTANT uuid := 'ffffffff-ffff-ffff-ffff-ffffffffffff';
BEGIN
  RETURN QUERY
  WITH clock AS MATERIALIZED (SELECT coupon_clock() AS now),
  page AS MATERIALIZED (
    SELECT item.ordinal, held.n, held.rows, held.coupon_ids, CASE WHEN filtered AND held.n < item.size THEN (
      SELECT one.id FROM user_coupons one
      WHERE (one.user_id COLLATE "C", one.id) < (item.user_id COLLATE "C", item.before)
        AND one.user_id COLLATE "C" >= item.user_id COLLATE "C" AND one.deleted_at IS NULL
      ORDER BY one.user_id COLLATE "C" DESC, one.id DESC
      OFFSET most_looked - 1 LIMIT 1
    ) END AS looked_to
    FROM (
      SELECT a."userId" AS user_id, coalesce(a.before, last) AS before, a.size, a.statuses, row_number() OVER () AS ordinal
      FROM json_to_recordset(items) AS a ("userId" text, before uuid, size int, statuses text[])
      LIMIT max_items
    ) item
    CROSS JOIN LATERAL (
      SELECT count(*) AS n, string_agg(one.row, ' ') AS rows, array_agg(one.coupon_id) AS coupon_ids
      FROM (
        SELECT u.coupon_id, concat(
          u.id, ' ', u.coupon_id, ' ', millis(u.issued_at), ' ', millis(u.valid_until), ' ',
          CASE WHEN u.max_uses > 1 OR u.place_count > 0 OR u.locked_until IS NOT NULL OR u.claim_until IS NOT NULL
            OR u.released_at IS NOT NULL OR u.code_id IS NOT NULL OR u.labels IS NOT NULL
          THEN concat(u.max_uses, ',', u.use_count, ',', u.place_count, ',',
            millis(u.locked_until), ',', millis(u.claim_until), ',', millis(u.released_at), ',',
            encode(convert_to(u.code, 'UTF8'), 'hex'), ',', encode(convert_to(u.discount::text, 'UTF8'), 'hex'), ',',
            encode(convert_to(u.labels::text, 'UTF8'), 'hex')) END
        ) AS row
        FROM (
          SELECT * FROM user_coupons one
          WHERE (one.user_id COLLATE "C", one.id) < (item.user_id COLLATE "C", item.before)
            AND one.user_id COLLATE "C" >= item.user_id COLLATE "C" AND one.deleted_at IS NULL
          ORDER BY one.user_id COLLATE "C" DESC, one.id DESC
          LIMIT CASE WHEN filtered THEN most_looked ELSE item.size END
        ) u
        WHERE NOT filtered OR (
          SELECT user_coupon_status(u, c, clock.now) = ANY (item.statuses)
          FROM coupons c CROSS JOIN clock WHERE c.id = u.coupon_id
        )
        LIMIT item.size
      ) one
    ) held
  )
  SELECT page.rows, page.looked_to, millis((SELECT now FROM clock)), CASE WHEN page.ordinal = 1 THEN (
    SELECT string_agg(concat(
      -- As the driver reads a time, which does not round.
      c.id, ' ', c.revision, ' ', millis(date_trunc('milliseconds', c.updated_at)), ' ',
      c.issued_count, ' ', c.used_count, ' ', c.place_count, ' ', millis(c.exhausted_at)
    ), ' ')
    FROM (SELECT DISTINCT unnest(p.coupon_ids) AS id FROM page p) named JOIN coupons c ON c.id = named.id
  ) END
  FROM page
  ORDER BY page.ordinal;
END
$$;
