-- Inserts the codes of a list that do not exist yet, at most `most` of them: in the order of their keys, so that two who
-- insert the same ones wait for each other in one direction only. Ids are in the order of the list. `came_by` is the upload or the job,
-- of which this may be one batch. Answers how many were inserted, how many users may hold them, and the indexes in the list, from 0,
-- of those that were not.
CREATE OR REPLACE FUNCTION insert_codes(book_id uuid, came_by uuid, list json, most int)
RETURNS TABLE (code_count bigint, seat_count bigint, taken json)
LANGUAGE plpgsql VOLATILE
-- The plans are cached while the tables are still small.
SET enable_seqscan = off
AS $$
#variable_conflict use_column
DECLARE
  at timestamptz := coupon_clock();
  -- When there are more than are wanted, those that exist must not use up what is wanted.
  sifted boolean := json_array_length(list) > most;
BEGIN
  RETURN QUERY
  WITH wanted AS MATERIALIZED (
    SELECT w.*, nextval('codes_id_seq') AS id
    FROM (
      SELECT * FROM ROWS FROM (
        json_to_recordset(list) AS (code text, key text, "pickKey" bigint, discount jsonb, "expiresAt" timestamptz,
          "maxUses" smallint, "maxHolders" int)
      ) WITH ORDINALITY AS w (code, key, pick_key, discount, expires_at, max_uses, max_holders, ordinal)
      ORDER BY ordinal
    ) w
  ),
  chosen AS (
    SELECT w.* FROM wanted w
    WHERE NOT sifted OR NOT EXISTS (SELECT FROM codes k WHERE k.code_key = w.key)
    ORDER BY w.ordinal LIMIT most
  ),
  added AS (
    INSERT INTO codes (id, coupon_id, code, code_key, pick_key, discount, expires_at, max_uses, max_holders, created_at, source_id)
    OVERRIDING SYSTEM VALUE
    SELECT w.id, book_id, w.code, w.key, w.pick_key, w.discount, w.expires_at, w.max_uses, w.max_holders, at, came_by
    FROM chosen w
    ORDER BY w.key COLLATE "C"
    ON CONFLICT (code_key) DO NOTHING
    RETURNING id, code_key, max_holders
  ),
  named AS (
    INSERT INTO code_sources AS s (id, coupon_id, first_code_id, last_code_id)
    SELECT came_by, book_id, min(a.id), max(a.id) FROM added a HAVING count(*) > 0
    ON CONFLICT (id) DO UPDATE SET last_code_id = excluded.last_code_id
  )
  -- A hashed subplan: a join of these would be a nested loop over the whole list.
  SELECT count(*), coalesce(sum(max_holders), 0)::bigint, (
    SELECT json_agg(w.ordinal - 1 ORDER BY w.ordinal) FROM wanted w WHERE w.key NOT IN (SELECT code_key FROM added)
  )
  FROM added;
END
$$;
