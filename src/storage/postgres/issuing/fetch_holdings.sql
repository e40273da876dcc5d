-- The next rows of the cursor `holdings`, for a query that makes one value of them: rows cost whoever receives them more than
-- their bytes do.
CREATE OR REPLACE FUNCTION fetch_holdings(row_count int) RETURNS TABLE (packed bytea)
LANGUAGE plpgsql AS $$
BEGIN
  RETURN QUERY EXECUTE format('FETCH %s FROM holdings', row_count);
END
$$;
