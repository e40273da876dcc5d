-- Adds one batch of codes to a job, never more than it still wants, and puts them into the stock of its coupon: one call is
-- one transaction. No row is answered when somebody else works on the job, or it has ended. A job ends when all are there,
-- with a failure when nothing was generated for it, and with another one when its coupon was deleted: then nothing of the
-- batch stays.
CREATE OR REPLACE FUNCTION generate_codes(job_id uuid, generated json)
RETURNS TABLE (made_count int, ended_at timestamptz, failure text, added_count int)
LANGUAGE plpgsql VOLATILE AS $$
#variable_conflict use_column
DECLARE
  mine code_jobs;
  at timestamptz;
  is_deleted boolean;
  codes_added int := 0;
  seats_added bigint;
  why text;
BEGIN
  SELECT * INTO mine FROM code_jobs j WHERE j.id = job_id AND j.ended_at IS NULL FOR UPDATE SKIP LOCKED;
  IF NOT FOUND THEN RETURN; END IF;

  BEGIN
    IF json_array_length(generated) = 0 THEN
      why := 'the pattern has no more codes that are not taken';
    ELSE
      SELECT i.code_count, i.seat_count INTO codes_added, seats_added
      FROM insert_codes(mine.coupon_id, mine.id, generated, mine.count - mine.made_count) i;
    END IF;
    SELECT c.deleted_at IS NOT NULL INTO is_deleted FROM coupons c WHERE c.id = mine.coupon_id FOR NO KEY UPDATE;
    at := coupon_clock();
    IF is_deleted THEN RAISE SQLSTATE 'CB001'; END IF;
    IF codes_added > 0 THEN
      UPDATE coupons c SET quantity = c.quantity + seats_added, code_total = c.code_total + codes_added,
        revision = c.revision + 1, updated_at = at
      WHERE c.id = mine.coupon_id;
    END IF;
  EXCEPTION WHEN SQLSTATE 'CB001' THEN
    codes_added := 0;
    why := 'the coupon was deleted';
    PERFORM FROM coupons c WHERE c.id = mine.coupon_id FOR NO KEY UPDATE;
    at := coupon_clock();
  END;

  UPDATE code_jobs j SET made_count = j.made_count + codes_added, failure = why,
    ended_at = CASE WHEN why IS NOT NULL OR j.made_count + codes_added = j.count THEN at END
  WHERE j.id = job_id
  RETURNING * INTO mine;
  IF mine.ended_at IS NOT NULL THEN
    INSERT INTO events (kind, happened_at, coupon_id, detail)
    VALUES ('CODES_GENERATED', at, mine.coupon_id, jsonb_build_object('jobId', job_id, 'codeCount', mine.made_count,
      'placeCount', mine.made_count * (mine.terms ->> 'maxHolders')::bigint, 'failure', why));
  END IF;
  RETURN QUERY SELECT mine.made_count, mine.ended_at, mine.failure, codes_added;
END
$$;
