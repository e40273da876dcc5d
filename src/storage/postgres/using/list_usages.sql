-- One page of ListUsages, the newest first: at most `size` usages that all filters leave (null: one that is not set). At most
-- `most_looked` are looked at; when that did not fill the page, `looked_to` is the last of them: the list goes on after it.
-- null: nothing is behind the page.
--
-- What is looked at is a range of one index, of the narrowest filter that is set: for its order see list_user_coupons.
CREATE OR REPLACE FUNCTION list_usages(
  of_order text, of_user text, of_product text, of_coupon uuid, with_cancelled boolean, before uuid, size int, most_looked int
) RETURNS TABLE (page usages[], looked_to uuid)
-- STABLE: both queries see the same.
LANGUAGE plpgsql STABLE ROWS 1
SET enable_seqscan = off
SET enable_bitmapscan = off
SET enable_sort = off
SET enable_incremental_sort = off
AS $$
DECLARE
  range CONSTANT text := CASE
    WHEN of_order IS NOT NULL THEN '(s.order_id, s.id) < ($1, $6) AND s.order_id >= $1 ORDER BY s.order_id DESC, s.id DESC'
    WHEN of_user IS NOT NULL THEN '(s.user_id, s.id) < ($2, $6) AND s.user_id >= $2 ORDER BY s.user_id DESC, s.id DESC'
    WHEN of_product IS NOT NULL THEN '(s.product_id, s.id) < ($3, $6) AND s.product_id >= $3 ORDER BY s.product_id DESC, s.id DESC'
    WHEN of_coupon IS NOT NULL THEN '(s.coupon_id, s.id) < ($4, $6) AND s.coupon_id >= $4 ORDER BY s.coupon_id DESC, s.id DESC'
    ELSE 's.id < $6 ORDER BY s.id DESC'
  END;
  last CONSTANT uuid := 'ffffffff-ffff-ffff-ffff-ffffffffffff';
BEGIN
  EXECUTE format($query$
    SELECT coalesce(array_agg(f.usage), '{}') FROM (
      SELECT s AS usage FROM (SELECT * FROM usages s WHERE %s LIMIT $8) s
      WHERE ($1 IS NULL OR s.order_id = $1) AND ($2 IS NULL OR s.user_id = $2) AND ($3 IS NULL OR s.product_id = $3)
        AND ($4 IS NULL OR s.coupon_id = $4) AND ($5 OR s.cancelled_at IS NULL)
      LIMIT $7
    ) f $query$, range)
  INTO page
  USING of_order, of_user, of_product, of_coupon, with_cancelled, coalesce(before, last), size, most_looked;
  IF cardinality(page) < size THEN
    EXECUTE format('SELECT s.id FROM usages s WHERE %s OFFSET $8 - 1 LIMIT 1', range)
    INTO looked_to
    USING of_order, of_user, of_product, of_coupon, with_cancelled, coalesce(before, last), size, most_looked;
  END IF;
  RETURN NEXT;
END
$$;
