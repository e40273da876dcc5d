-- One step of deleting what came by an upload or a job, from a coupon that the caller has locked: looks at no more than `most_looked`
-- of the coupon's codes, those after `after`. `looked_to` is the last of them; null: there are no more.
CREATE OR REPLACE FUNCTION delete_codes_of_source(came_by uuid, after bigint, most_looked int, named jsonb)
RETURNS TABLE (deleted_count int, taken_count int, looked_to bigint)
LANGUAGE plpgsql VOLATILE
-- A range of codes_by_coupon in its order, whatever the statistics: see list_user_coupons().
SET enable_seqscan = off
SET enable_bitmapscan = off
SET enable_sort = off
SET enable_incremental_sort = off
SET plan_cache_mode = force_generic_plan
AS $$
#variable_conflict use_column
DECLARE
  source code_sources;
  ids bigint[];
  looked int;
BEGIN
  SELECT * INTO source FROM code_sources s WHERE s.id = came_by;
  SELECT count(*), max(k.id), array_agg(k.id) FILTER (WHERE k.source_id = came_by AND k.holder_count = 0),
    count(*) FILTER (WHERE k.source_id = came_by AND k.holder_count > 0)
  INTO looked, looked_to, ids, taken_count
  FROM (
    SELECT * FROM codes k
    WHERE (k.coupon_id, k.id) > (source.coupon_id, greatest(after, source.first_code_id - 1))
      AND (k.coupon_id, k.id) <= (source.coupon_id, source.last_code_id)
    ORDER BY k.coupon_id, k.id LIMIT most_looked
  ) k;
  IF looked < most_looked THEN looked_to := NULL; END IF;
  deleted_count := delete_codes(source.coupon_id, ids, named);
  RETURN NEXT;
END
$$;
