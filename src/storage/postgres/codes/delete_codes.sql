-- Deletes, of these codes of a coupon that the caller has locked, those of which no seat is taken, and answers how many. What of them is in
-- the coupon's stock leaves it: its quantity goes down. `came_by` goes into the event: how the codes were named.
CREATE OR REPLACE FUNCTION delete_codes(book_id uuid, code_ids bigint[], came_by jsonb) RETURNS int
LANGUAGE sql VOLATILE AS $$
  WITH deleted AS (
    DELETE FROM codes k WHERE k.id = ANY (code_ids) AND k.coupon_id = book_id AND k.holder_count = 0
    RETURNING CASE WHEN k.retired_at IS NULL THEN k.max_holders ELSE 0 END AS seats
  ),
  total AS (SELECT count(*) AS n, sum(d.seats) AS seats, coupon_clock() AS at FROM deleted d HAVING count(*) > 0),
  counted AS (
    UPDATE coupons c SET quantity = c.quantity - t.seats, revision = c.revision + 1, updated_at = t.at
    FROM total t WHERE c.id = book_id
  ),
  logged AS (
    INSERT INTO events (kind, happened_at, coupon_id, detail)
    SELECT 'CODES_DELETED', t.at, book_id, jsonb_build_object('codeCount', t.n, 'placeCount', t.seats) || came_by FROM total t
  )
  SELECT count(*)::int FROM deleted
$$;
