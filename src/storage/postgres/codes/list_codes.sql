-- One page of ListCodes, in the order in which the codes were added: at most `size` codes whose status at `now` is among `statuses`
-- (null: any), for a coupon that ends at `coupon_ends`. At most `most_looked` are looked at (without `statuses` as many as the
-- page has); when that did not fill the page, there is a last row that has only `looked_to`: the list goes on after it.
--
-- `used_up`, see code_is_used_up(), matters only for codes that nobody else can get, and not when only free ones are wanted.
-- The status is codeStatus() of the domain, which says it again of each row, from the same facts.
CREATE OR REPLACE FUNCTION list_codes(
  of_coupon uuid, after bigint, statuses text[], coupon_ends timestamptz, now timestamptz, size int, most_looked int,
  most_holders int
) RETURNS TABLE (
  id bigint, coupon_id uuid, code text, discount jsonb, expires_at timestamptz, max_uses smallint, max_holders int,
  holder_count int, created_at timestamptz, used_up boolean, looked_to bigint
)
LANGUAGE plpgsql STABLE
-- A range of codes_by_coupon in its order, whatever the statistics: see list_user_coupons().
SET enable_seqscan = off
SET enable_bitmapscan = off
SET enable_sort = off
SET enable_incremental_sort = off
SET plan_cache_mode = force_generic_plan
AS $$
#variable_conflict use_column
DECLARE
  book coupons;
  found_count int;
BEGIN
  SELECT * INTO book FROM coupons c WHERE c.id = of_coupon;
  RETURN QUERY
  SELECT k.id, k.coupon_id, k.code, k.discount, k.expires_at, k.max_uses, k.max_holders, k.holder_count, k.created_at,
    looked.used_up, NULL::bigint
  FROM (
    SELECT * FROM codes k WHERE (k.coupon_id, k.id) > (of_coupon, after) AND k.coupon_id <= of_coupon
    ORDER BY k.coupon_id, k.id LIMIT CASE WHEN statuses IS NULL THEN size ELSE most_looked END
  ) k
  CROSS JOIN LATERAL (
    SELECT CASE WHEN k.holder_count >= k.max_holders AND statuses IS DISTINCT FROM '{FREE}'
      THEN code_is_used_up(k.id, book, most_holders) ELSE false END AS used_up
    OFFSET 0
  ) looked
  WHERE statuses IS NULL OR CASE
    WHEN looked.used_up THEN 'USED'
    WHEN coupon_ends <= now OR k.expires_at <= now THEN 'EXPIRED'
    WHEN k.holder_count < k.max_holders THEN 'FREE'
    ELSE 'ISSUED'
  END = ANY (statuses)
  LIMIT size;
  GET DIAGNOSTICS found_count = ROW_COUNT;
  IF statuses IS NULL OR found_count >= size THEN RETURN; END IF;
  SELECT k.id INTO looked_to FROM codes k
  WHERE (k.coupon_id, k.id) > (of_coupon, after) AND k.coupon_id <= of_coupon
  ORDER BY k.coupon_id, k.id OFFSET most_looked - 1 LIMIT 1;
  IF looked_to IS NOT NULL THEN RETURN NEXT; END IF;
END
$$;
