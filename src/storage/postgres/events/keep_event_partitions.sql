-- Makes the partitions of `events` for the months to come, and drops those whose last event is older than `keep_days` (0: none).
-- Answers how many it made, and the names of those that it dropped. One at a time, over all replicas; a lock is waited for as
-- migrations wait for theirs.
--
-- Whoever may serve need not own the tables, so this runs as their owner, and only for those who may add events and delete
-- them. What happened in a month that has no partition is in the default one, and moves when that month gets its own.
CREATE OR REPLACE FUNCTION keep_event_partitions(at timestamptz, keep_days int)
RETURNS TABLE (made int, dropped text[])
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, public, pg_temp
SET lock_timeout = '1500ms'
SET timezone = 'UTC'
AS $$
DECLARE
  lock_key CONSTANT bigint := 7106118005;
  months_ahead CONSTANT int := 6;
  horizon CONSTANT timestamptz := at - keep_days * interval '24 hours';
  month timestamptz;
  name text;
  old record;
BEGIN
  made := 0;
  dropped := '{}';
  IF NOT has_table_privilege(session_user, 'public.events', 'INSERT') OR NOT has_table_privilege(session_user, 'public.events', 'DELETE') THEN
    RAISE EXCEPTION 'whoever keeps the events must be allowed to insert and to delete them' USING ERRCODE = 'insufficient_privilege';
  END IF;
  -- It becomes a partitioned one when the database is brought up to date.
  IF (SELECT c.relkind <> 'p' FROM pg_class c WHERE c.oid = 'public.events'::regclass)
    OR NOT pg_try_advisory_xact_lock(lock_key) THEN
    RETURN NEXT;
    RETURN;
  END IF;

  SELECT max(k.until) INTO month FROM (
      SELECT c.relname AS name, substring(pg_get_expr(c.relpartbound, c.oid) FROM 'TO \(''([^'']+)''\)')::timestamptz AS until
      FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid WHERE i.inhparent = 'public.events'::regclass
    ) k;
  month := coalesce(month, date_trunc('month', at));
  WHILE month <= date_trunc('month', at) + months_ahead * interval '1 month' LOOP
    name := 'events_' || to_char(month, 'YYYY_MM');
    EXECUTE format('CREATE TABLE public.%I (LIKE public.events INCLUDING DEFAULTS, PRIMARY KEY (seq))', name);
    EXECUTE format(
      'WITH moved AS (DELETE FROM public.events_rest WHERE happened_at >= %1$L AND happened_at < %2$L RETURNING *)
       INSERT INTO public.%3$I SELECT * FROM moved', month, month + interval '1 month', name);
    EXECUTE format('ALTER TABLE public.events ATTACH PARTITION public.%I FOR VALUES FROM (%L) TO (%L)',
      name, month, month + interval '1 month');
    made := made + 1;
    month := month + interval '1 month';
  END LOOP;

  IF keep_days > 0 THEN
    FOR old IN SELECT k.name FROM (
      SELECT c.relname AS name, substring(pg_get_expr(c.relpartbound, c.oid) FROM 'TO \(''([^'']+)''\)')::timestamptz AS until
      FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid WHERE i.inhparent = 'public.events'::regclass
      -- Until then other tables' partitions may be among them, whose bounds are no times.
      OFFSET 0
    ) k WHERE k.until <= horizon ORDER BY k.until LOOP
      EXECUTE format('DROP TABLE public.%I', old.name);
      dropped := array_append(dropped, old.name);
    END LOOP;
    DELETE FROM public.events_rest r WHERE r.happened_at < horizon;
  END IF;
  RETURN NEXT;
END
$$;
