-- Makes the partitions of `kept` (`events` or `audit_records`) for the months to come, and drops those whose last row is older than
-- `keep_days` (0: none). Answers how many it made, and the names of those that it dropped. One at a time, over all replicas; a
-- lock is waited for as migrations wait for theirs.
--
-- The newest event stays, and with it its month, however old it is: whoever follows events and has seen all of them goes on behind it.
--
-- Whoever may serve need not own the tables, so this runs as their owner: for those who may add rows and, where months are dropped,
-- delete them. (Of audit records the triggers leave that privilege of no other use.) What happened in a month that has no
-- partition is in the default one, and moves when that month gets its own.
CREATE OR REPLACE FUNCTION keep_months(kept text, at timestamptz, keep_days int)
RETURNS TABLE (made int, dropped text[])
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, public, pg_temp
SET lock_timeout = '1500ms'
SET timezone = 'UTC'
AS $$
DECLARE
  months_ahead CONSTANT int := 6;
  horizon timestamptz := at - keep_days * interval '24 hours';
  is_audit CONSTANT boolean := kept = 'audit_records';
  -- Those of other releases, too.
  lock_key CONSTANT bigint := CASE WHEN is_audit THEN 7106118006 ELSE 7106118005 END;
  rest CONSTANT text := kept || '_rest';
  -- By what the partitions are told apart, and its least value at a moment: of audit records the id, which begins with the milliseconds.
  key CONSTANT text := CASE WHEN is_audit THEN 'id' ELSE 'happened_at' END;
  least_key CONSTANT text := CASE WHEN is_audit
    THEN $id$(lpad(to_hex((extract(epoch FROM %1$L::timestamptz) * 1000)::bigint), 12, '0') || repeat('0', 20))::uuid::text$id$
    ELSE '%1$L::timestamptz::text' END;
  first_key text;
  next_key text;
  partition record;
  until timestamptz;
  month timestamptz;
  name text;
  -- Some rows of the default partition are wanted elsewhere, or not any more.
  is_there boolean;
BEGIN
  made := 0;
  dropped := '{}';
  IF (kept IN ('events', 'audit_records')) IS NOT TRUE THEN
    RAISE EXCEPTION '% is not kept by months', kept USING ERRCODE = 'invalid_parameter_value';
  END IF;
  IF NOT has_table_privilege(session_user, 'public.' || kept, 'INSERT')
    OR keep_days > 0 AND NOT has_table_privilege(session_user, 'public.' || kept, 'DELETE') THEN
    RAISE EXCEPTION 'whoever keeps % must be allowed to insert them, and to delete them to drop old months', kept
      USING ERRCODE = 'insufficient_privilege';
  END IF;
  -- Events become a partitioned table when the database is brought up to date.
  IF (SELECT c.relkind <> 'p' FROM pg_class c WHERE c.oid = ('public.' || kept)::regclass)
    OR NOT pg_try_advisory_xact_lock(lock_key) THEN
    RETURN NEXT;
    RETURN;
  END IF;
  IF NOT is_audit THEN
    horizon := least(horizon, (SELECT e.happened_at FROM public.events e ORDER BY e.seq DESC LIMIT 1));
  END IF;

  FOR partition IN
    SELECT c.relname::text AS name, substring(pg_get_expr(c.relpartbound, c.oid) FROM 'TO \(''([^'']+)''\)') AS next_key
    FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid WHERE i.inhparent = ('public.' || kept)::regclass
    ORDER BY substring(pg_get_expr(c.relpartbound, c.oid) FROM 'TO.*') COLLATE "C"
  LOOP
    -- The default one has no end.
    CONTINUE WHEN partition.next_key IS NULL;
    until := CASE WHEN is_audit
      THEN to_timestamp(('x' || left(replace(partition.next_key, '-', ''), 12))::bit(48)::bigint / 1000.0)
      ELSE partition.next_key::timestamptz END;
    month := greatest(month, until);
    IF keep_days > 0 AND until <= horizon THEN
      dropped := array_append(dropped, partition.name);
    END IF;
  END LOOP;

  month := coalesce(month, date_trunc('month', at));
  WHILE month <= date_trunc('month', at) + months_ahead * interval '1 month' LOOP
    name := kept || '_' || to_char(month, 'YYYY_MM');
    EXECUTE 'SELECT ' || format(least_key, month) INTO first_key;
    EXECUTE 'SELECT ' || format(least_key, month + interval '1 month') INTO next_key;
    EXECUTE format('CREATE TABLE public.%I (LIKE public.%I INCLUDING DEFAULTS INCLUDING INDEXES)', name, rest);
    EXECUTE format('SELECT EXISTS (SELECT FROM public.%I WHERE %I >= %L AND %2$I < %4$L)', rest, key, first_key, next_key) INTO is_there;
    IF is_there THEN
      EXECUTE format('ALTER TABLE public.%I DISABLE TRIGGER USER', rest);
      EXECUTE format(
        'WITH moved AS (DELETE FROM public.%I WHERE %I >= %L AND %2$I < %4$L RETURNING *)
         INSERT INTO public.%5$I SELECT * FROM moved', rest, key, first_key, next_key, name);
      EXECUTE format('ALTER TABLE public.%I ENABLE TRIGGER USER', rest);
    END IF;
    EXECUTE format('ALTER TABLE public.%I ATTACH PARTITION public.%I FOR VALUES FROM (%L) TO (%L)', kept, name, first_key, next_key);
    IF is_audit THEN
      EXECUTE format(
        'CREATE TRIGGER audit_records_all_stay BEFORE TRUNCATE ON public.%I
         FOR EACH STATEMENT EXECUTE FUNCTION public.keep_record_as_it_is()', name);
    END IF;
    made := made + 1;
    month := month + interval '1 month';
  END LOOP;

  FOREACH name IN ARRAY dropped LOOP
    EXECUTE format('DROP TABLE public.%I', name);
  END LOOP;
  IF keep_days > 0 THEN
    EXECUTE 'SELECT ' || format(least_key, horizon) INTO first_key;
    EXECUTE format('SELECT EXISTS (SELECT FROM public.%I WHERE %I < %L)', rest, key, first_key) INTO is_there;
    IF is_there THEN
      EXECUTE format('ALTER TABLE public.%I DISABLE TRIGGER USER', rest);
      EXECUTE format('DELETE FROM public.%I WHERE %I < %L', rest, key, first_key);
      EXECUTE format('ALTER TABLE public.%I ENABLE TRIGGER USER', rest);
    END IF;
  END IF;
  RETURN NEXT;
END
$$;
