-- Locks the orders of a batch until the end of the transaction, each of one user, in the order of their keys; whoever calls this
-- has locked all of its coupons before. So of two transactions with one order the later one sees what the earlier one did, and
-- nothing can deadlock. An order has no row that could be locked, and its name may be that of another user's order as well.
CREATE OR REPLACE FUNCTION lock_orders(items json) RETURNS void
LANGUAGE plpgsql VOLATILE AS $$
BEGIN
  PERFORM pg_advisory_xact_lock(k.key) FROM (
    SELECT DISTINCT hashtextextended(a.user_id || E'\n' || a.order_id, 7106118) AS key
    FROM json_to_recordset(items) AS a (user_id text, order_id text)
    WHERE a.order_id <> ''
    ORDER BY 1
    OFFSET 0
  ) k;
END
$$;
