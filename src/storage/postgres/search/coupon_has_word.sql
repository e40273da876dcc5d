-- Whether any coupon that can be found has this word. What many have is among the newest few; only what is not is asked of
-- the index, which reads all that have it.
CREATE OR REPLACE FUNCTION coupon_has_word(word tsquery, window_size int) RETURNS boolean
LANGUAGE plpgsql STABLE
SET enable_seqscan = off
SET plan_cache_mode = force_generic_plan
AS $$
BEGIN
  RETURN EXISTS (
    SELECT FROM (SELECT s.all_words FROM coupon_search s ORDER BY s.coupon_id DESC LIMIT window_size) n
    WHERE n.all_words @@ word
  ) OR EXISTS (
    SELECT FROM (SELECT s.coupon_id FROM coupon_search s WHERE s.all_words @@ word OFFSET 0) m
  );
END $$;
