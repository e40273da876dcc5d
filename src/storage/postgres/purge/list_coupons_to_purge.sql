-- The next `size` coupons after one, whatever their state, and of each whether user coupons or free codes of it may be purged: because
-- it has ended long enough ago, or for the codes was deleted.
-- No condition but the id's, and no index for others: what most coupons do not meet makes a query go through all of them, and an
-- index on what changes with each issue would make each of these write to all indexes.
CREATE OR REPLACE FUNCTION list_coupons_to_purge(after uuid, ended_before interval, deleted_before interval, size int)
RETURNS TABLE (id uuid, has_unused boolean, has_free_codes boolean)
LANGUAGE plpgsql STABLE
-- A range of the primary key in its order, whatever the statistics: see list_user_coupons().
SET enable_seqscan = off
SET enable_bitmapscan = off
SET enable_sort = off
AS $$
#variable_conflict use_column
DECLARE
  at CONSTANT timestamptz := coupon_clock();
BEGIN
  RETURN QUERY
  SELECT c.id,
    has_long_ended(c, at - ended_before)
      AND c.issued_total - c.deleted_total - c.released_total - c.placed_holder_count - c.purged_total > 0,
    c.is_code_book AND c.quantity > c.issued_count
      AND (has_long_ended(c, at - ended_before) OR c.deleted_at <= at - deleted_before) IS TRUE
  FROM coupons c
  WHERE c.id > after
  ORDER BY c.id
  LIMIT size;
END
$$;
