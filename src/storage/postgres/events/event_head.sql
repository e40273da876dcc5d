-- How far the events have come: the newest that can be seen, whether `known` is still the event with `known_xid`, and which
-- transactions may still add events that come before the newest: null while nothing `is_pending` and `known` is the newest.
--
-- An event takes its number in a statement that has had a lock on `events` since it began, and the lock goes after its transaction can be
-- seen. So whoever may have drawn a number below the newest one, and cannot be seen yet, is among the holders of that lock
-- AFTER the newest one was read: the order of these two is what it all depends on. In a function that is VOLATILE each
-- statement sees what was committed before it.
CREATE OR REPLACE FUNCTION event_head(known bigint, known_xid text, is_pending boolean)
RETURNS TABLE (newest bigint, newest_xid text, is_known boolean, open text)
LANGUAGE plpgsql VOLATILE
AS $$
BEGIN
  SELECT e.seq, e.xid::text INTO newest, newest_xid FROM events e ORDER BY e.seq DESC LIMIT 1;
  is_known := true;
  IF is_pending OR newest IS DISTINCT FROM known OR newest_xid IS DISTINCT FROM known_xid THEN
    is_known := EXISTS (SELECT FROM events e WHERE e.seq = known AND e.xid::text = known_xid);
    open := (
      SELECT string_agg(l.virtualtransaction, ' ') FROM pg_locks l
      WHERE l.locktype = 'relation' AND l.relation = 'public.events'::regclass AND l.mode = 'RowExclusiveLock' AND l.granted
        AND l.database = (SELECT d.oid FROM pg_database d WHERE d.datname = current_database())
    );
  END IF;
  RETURN NEXT;
END
$$;
