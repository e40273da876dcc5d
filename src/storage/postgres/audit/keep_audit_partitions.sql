-- Makes the partitions of `audit_records` for the months to come, and drops those whose last record is older than `keep_days`
-- (0: none). Answers how many it made, and the names of those that it dropped. One at a time, over all replicas.
--
-- It is to the audit records what keep_event_partitions.sql is to events, which says why it runs as the owner of the tables. Whoever
-- may add records may have months made; to drop them takes the privilege to delete records, which the triggers leave of no other use.
CREATE OR REPLACE FUNCTION keep_audit_partitions(at timestamptz, keep_days int)
RETURNS TABLE (made int, dropped text[])
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, public, pg_temp
SET lock_timeout = '1500ms'
SET timezone = 'UTC'
AS $$
DECLARE
  lock_key CONSTANT bigint := 7106118006;
  months_ahead CONSTANT int := 6;
  horizon CONSTANT timestamptz := at - keep_days * interval '24 hours';
  -- The least id of a moment.
  least_id CONSTANT text := $id$(lpad(to_hex((extract(epoch FROM %1$L::timestamptz) * 1000)::bigint), 12, '0') || repeat('0', 20))::uuid$id$;
  -- By their names, which end with year and month.
  months text[];
  first_id uuid;
  next_id uuid;
  month timestamptz;
  name text;
BEGIN
  made := 0;
  dropped := '{}';
  IF NOT has_table_privilege(session_user, 'public.audit_records', 'INSERT')
    OR keep_days > 0 AND NOT has_table_privilege(session_user, 'public.audit_records', 'DELETE') THEN
    RAISE EXCEPTION 'whoever keeps the audit records must be allowed to insert them, and to delete them to drop old ones'
      USING ERRCODE = 'insufficient_privilege';
  END IF;
  IF NOT pg_try_advisory_xact_lock(lock_key) THEN
    RETURN NEXT;
    RETURN;
  END IF;

  SELECT array_agg(c.relname::text ORDER BY c.relname) INTO months
  FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
  WHERE i.inhparent = 'public.audit_records'::regclass AND c.relname ~ '_\d{4}_\d{2}$';
  month := coalesce(to_timestamp(right(months[cardinality(months)], 7), 'YYYY_MM') + interval '1 month', date_trunc('month', at));
  WHILE month <= date_trunc('month', at) + months_ahead * interval '1 month' LOOP
    name := 'audit_records_' || to_char(month, 'YYYY_MM');
    EXECUTE 'SELECT ' || format(least_id, month) INTO first_id;
    EXECUTE 'SELECT ' || format(least_id, month + interval '1 month') INTO next_id;
    EXECUTE format('CREATE TABLE public.%I (LIKE public.audit_records INCLUDING DEFAULTS)', name);
    IF EXISTS (SELECT FROM public.audit_records_rest r WHERE r.id >= first_id AND r.id < next_id) THEN
      ALTER TABLE public.audit_records_rest DISABLE TRIGGER audit_records_stay;
      EXECUTE format(
        'WITH moved AS (DELETE FROM public.audit_records_rest WHERE id >= %L AND id < %L RETURNING *)
         INSERT INTO public.%I SELECT * FROM moved', first_id, next_id, name);
      ALTER TABLE public.audit_records_rest ENABLE TRIGGER audit_records_stay;
    END IF;
    EXECUTE format('ALTER TABLE public.audit_records ATTACH PARTITION public.%I FOR VALUES FROM (%L) TO (%L)', name, first_id, next_id);
    EXECUTE format(
      'CREATE TRIGGER audit_records_all_stay BEFORE TRUNCATE ON public.%I
       FOR EACH STATEMENT EXECUTE FUNCTION public.keep_record_as_it_is()', name);
    made := made + 1;
    month := month + interval '1 month';
  END LOOP;

  IF keep_days > 0 THEN
    FOREACH name IN ARRAY coalesce(months, '{}') LOOP
      CONTINUE WHEN to_timestamp(right(name, 7), 'YYYY_MM') + interval '1 month' > horizon;
      EXECUTE format('DROP TABLE public.%I', name);
      dropped := array_append(dropped, name);
    END LOOP;
    EXECUTE 'SELECT ' || format(least_id, horizon) INTO first_id;
    IF EXISTS (SELECT FROM public.audit_records_rest r WHERE r.id < first_id) THEN
      ALTER TABLE public.audit_records_rest DISABLE TRIGGER audit_records_stay;
      DELETE FROM public.audit_records_rest r WHERE r.id < first_id;
      ALTER TABLE public.audit_records_rest ENABLE TRIGGER audit_records_stay;
    END IF;
  END IF;
  RETURN NEXT;
END
$$;
