-- One page of SearchCoupons without words: the newest coupons that the filters leave, one more than `page_size` when there is
-- another page. It is looked for among at most `most_looked` coupons, which are a range of one index: of the category, else
-- of the type, else of the discount's kind, else of all. When that did not fill the page, `looked_to` is the last of them: the
-- list goes on after it. null: nothing is behind the page.
--
-- The order begins with what is filtered by, and as a range and not as an equation: see list_user_coupons().
CREATE OR REPLACE FUNCTION browse_coupons(
  of_category text, of_type text, of_discount_kind text, with_ended boolean, page_size int, after_id uuid, most_looked int,
  OUT coupon_ids uuid[], OUT looked_to uuid
)
LANGUAGE plpgsql STABLE
SET enable_seqscan = off
SET enable_bitmapscan = off
SET enable_sort = off
SET enable_incremental_sort = off
AS $$
DECLARE
  at CONSTANT timestamptz := coupon_clock();
  last CONSTANT uuid := 'ffffffff-ffff-ffff-ffff-ffffffffffff';
  category CONSTANT text := lower(of_category COLLATE "und-x-icu");
  ordered_by CONSTANT text := CASE
    WHEN of_category IS NOT NULL THEN 'lower(s.category COLLATE "und-x-icu") COLLATE "C"'
    WHEN of_type IS NOT NULL THEN 's.type COLLATE "C"'
    WHEN of_discount_kind IS NOT NULL THEN 's.discount_kind COLLATE "C"'
  END;
  source CONSTANT text := CASE
    WHEN ordered_by IS NULL THEN 'SELECT s.* FROM coupon_search s WHERE s.coupon_id < $2 ORDER BY s.coupon_id DESC'
    ELSE format(
      'SELECT s.* FROM coupon_search s WHERE (%1$s, s.coupon_id) < ($1, $2) AND %1$s >= $1 ORDER BY %1$s DESC, s.coupon_id DESC',
      ordered_by
    )
  END;
  first CONSTANT text := coalesce(category, of_type, of_discount_kind);
  after CONSTANT uuid := coalesce(after_id, last);
BEGIN
  EXECUTE format(
    'SELECT coalesce(array_agg(f.coupon_id), ''{}'') FROM (
       SELECT n.coupon_id FROM (%s LIMIT $3) n
       WHERE ($4 OR n.expires_at > $5) AND ($6 IS NULL OR n.type = $6) AND ($7 IS NULL OR n.discount_kind = $7)
       LIMIT $8
     ) f', source)
  INTO coupon_ids USING first, after, most_looked, with_ended, at, of_type, of_discount_kind, page_size + 1;
  IF cardinality(coupon_ids) > page_size THEN RETURN; END IF;
  EXECUTE format('SELECT l.coupon_id FROM (%s OFFSET $3 - 1 LIMIT 1) l', source) INTO looked_to USING first, after, most_looked;
END
$$;
