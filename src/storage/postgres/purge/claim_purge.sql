-- Whether this transaction may purge: one at a time, over all replicas.
CREATE OR REPLACE FUNCTION claim_purge() RETURNS boolean
LANGUAGE sql VOLATILE AS $$
  SELECT pg_try_advisory_xact_lock(7106118002)
$$;
