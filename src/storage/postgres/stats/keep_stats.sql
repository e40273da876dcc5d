-- Counts with count_stats() when it is time to, for those who will ask. Not while what is there can be read by whoever asks
-- (`most`, see stats_are_large()). While somebody asks, ten times as long passes as the counting takes, a second at least;
-- else a minute.
CREATE OR REPLACE FUNCTION keep_stats(most int) RETURNS boolean
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
  at CONSTANT timestamptz := coupon_clock();
  idle_pause CONSTANT interval := '1 minute';
  asked_lately CONSTANT interval := '10 minutes';
  kept stats_snapshots;
  pause interval;
BEGIN
  IF NOT stats_are_large(at, most) THEN RETURN false; END IF;
  SELECT * INTO kept FROM stats_snapshots s WHERE s.scope = 'all';
  pause := CASE
    WHEN kept.asked_at + asked_lately < at THEN idle_pause
    ELSE least(idle_pause, greatest(1000, 10 * kept.took_ms) * interval '1 millisecond')
  END;
  IF kept.read_at + pause > at THEN RETURN false; END IF;
  RETURN count_stats(false);
END
$$;
