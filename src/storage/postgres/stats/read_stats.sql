-- What GetStats answers: counts of this moment, or, of all or of a type, when these are too much to read (`most`, see
-- stats_are_large()), the newest that were kept, with their moment. When none were kept yet, it counts.
CREATE OR REPLACE FUNCTION read_stats(wanted_id uuid, wanted_type text, most int)
RETURNS TABLE (
  now timestamptz, coupon_count bigint, code_count bigint, issued_count bigint, deleted_count bigint, released_count bigint,
  used_count bigint, cancelled_count bigint, revoked_count bigint, expired_count bigint
)
LANGUAGE plpgsql VOLATILE AS $$
#variable_conflict use_column
DECLARE
  at CONSTANT timestamptz := coupon_clock();
  asked_again CONSTANT interval := '1 minute';
  kept stats_snapshots;
BEGIN
  IF wanted_id IS NOT NULL OR NOT stats_are_large(at, most) THEN
    -- Of one coupon either what is due of all or what it has itself is gone through: what is less.
    RETURN QUERY SELECT * FROM coupon_stats(wanted_id, wanted_type, wanted_id IS NOT NULL AND due_are_many(at, greatest(most,
      (SELECT c.issued_total FROM coupons c WHERE c.id = wanted_id))));
    RETURN;
  END IF;
  SELECT * INTO kept FROM stats_snapshots s WHERE s.scope = 'all';
  IF kept.scope IS NULL THEN
    PERFORM count_stats(true);
    SELECT * INTO kept FROM stats_snapshots s WHERE s.scope = 'all';
  ELSIF kept.asked_at + asked_again < at THEN
    -- Whoever counts has the row, and knows that somebody asks.
    UPDATE stats_snapshots s SET asked_at = at
    WHERE s.scope IN (SELECT f.scope FROM stats_snapshots f WHERE f.scope = 'all' FOR NO KEY UPDATE SKIP LOCKED);
  END IF;
  IF wanted_type IS NOT NULL THEN
    RETURN QUERY
    SELECT coalesce(s.read_at, kept.read_at), coalesce(s.coupon_count, 0), coalesce(s.code_count, 0), coalesce(s.issued_count, 0),
      coalesce(s.deleted_count, 0), coalesce(s.released_count, 0), coalesce(s.used_count, 0), coalesce(s.cancelled_count, 0),
      coalesce(s.revoked_count, 0), coalesce(s.expired_count, 0)
    FROM (SELECT) one LEFT JOIN stats_snapshots s ON s.scope = wanted_type;
    RETURN;
  END IF;
  RETURN QUERY SELECT kept.read_at, kept.coupon_count, kept.code_count, kept.issued_count, kept.deleted_count,
    kept.released_count, kept.used_count, kept.cancelled_count, kept.revoked_count, kept.expired_count;
END
$$;
