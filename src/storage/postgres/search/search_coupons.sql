-- One page of SearchCoupons: the coupons' ids, best first, one more than `page_size` when there is another page, with the
-- tier of each: 1 has all words in its name, 2 in name, category and description together. The newest come first in a tier,
-- and a page goes on after (`after_tier`, `after_id`). Without words all are of tier 1, and browse_coupons() finds them, among
-- `most_looked`; only then may `looked_to` be set. Filters that are null leave all.
--
-- A tier is looked for among the newest `window_size` coupons first: a word that many have fills the page there, and sorting
-- all that have it would take half a second. Only what is too rare for that is asked of an index, where the filters are words
-- like the others.
CREATE OR REPLACE FUNCTION search_coupons(
  query text, of_category text, of_type text, of_discount_kind text, with_ended boolean, page_size int, after_tier int,
  after_id uuid, window_size int, most_looked int
) RETURNS TABLE (coupon_ids uuid[], tiers int[], looked_to uuid, corrected_query text)
LANGUAGE plpgsql STABLE ROWS 1
-- The plans are cached while the tables are still small; these ones are right at every size.
SET enable_seqscan = off
SET plan_cache_mode = force_generic_plan
AS $$
DECLARE
  -- The window is made this much larger when it has a part of the page that promises the rest there.
  larger CONSTANT int := 12;
  at CONSTANT timestamptz := coupon_clock();
  last CONSTANT uuid := 'ffffffff-ffff-ffff-ffff-ffffffffffff';
  filters tsquery;
  filter text;
  terms record;
  dropped text[] := '{}';
  checked tsquery;
  asked tsquery;
  missing int := page_size + 1;
  from_id uuid;
  hits uuid[];
BEGIN
  coupon_ids := '{}';
  tiers := '{}';
  corrected_query := '';
  FOREACH filter IN ARRAY array_remove(ARRAY[
    '=c ' || lower(of_category COLLATE "und-x-icu"), '=t ' || of_type, '=k ' || of_discount_kind], NULL)
  LOOP
    filters := coalesce(filters && tsquery_of(ARRAY[filter], ''), tsquery_of(ARRAY[filter], ''));
  END LOOP;

  LOOP
    SELECT * INTO terms FROM search_terms(query, dropped);
    -- No row: some word is like no other.
    corrected_query := coalesce(terms.corrected_query, '');
    EXIT WHEN NOT FOUND;
    checked := coalesce(terms.checked && filters, terms.checked, filters);
    asked := coalesce(terms.asked && filters, terms.asked, filters, terms.checked);

    IF terms.checked IS NULL THEN
      SELECT b.coupon_ids, b.looked_to INTO coupon_ids, looked_to
      FROM browse_coupons(of_category, of_type, of_discount_kind, with_ended, page_size, after_id, most_looked) b;
      tiers := array_fill(1, ARRAY[cardinality(coupon_ids)]);
      EXIT;
    END IF;

    FOR tier IN coalesce(after_tier, 1) .. 2 LOOP
      from_id := CASE WHEN tier = after_tier THEN after_id ELSE last END;
      hits := NULL;
      FOR size IN 1 .. 2 LOOP
        -- An eighth of the page in the first window is most probably the whole in the larger one.
        EXIT WHEN window_size = 0 OR cardinality(hits) = missing OR cardinality(hits) * 8 < missing;
        SELECT coalesce(array_agg(f.coupon_id), '{}') INTO hits FROM (
          SELECT n.coupon_id
          FROM (
            SELECT s.coupon_id, s.name_words, s.all_words, s.expires_at FROM coupon_search s WHERE s.coupon_id < from_id
            ORDER BY s.coupon_id DESC LIMIT window_size * CASE size WHEN 1 THEN 1 ELSE larger END
          ) n
          WHERE (with_ended OR n.expires_at > at)
            AND CASE tier WHEN 1 THEN n.name_words @@ checked ELSE n.all_words @@ checked AND NOT n.name_words @@ checked END
          LIMIT missing
        ) f;
      END LOOP;

      IF hits IS NULL OR cardinality(hits) < missing THEN
        IF tier = 1 THEN
          SELECT coalesce(array_agg(f.coupon_id), '{}') INTO hits FROM (
            SELECT m.coupon_id
            FROM (SELECT s.coupon_id, s.name_words, s.expires_at FROM coupon_search s WHERE s.name_words @@ asked OFFSET 0) m
            WHERE m.coupon_id < from_id AND (with_ended OR m.expires_at > at) AND (NOT terms.wide OR m.name_words @@ checked)
            ORDER BY m.coupon_id DESC LIMIT missing
          ) f;
        ELSE
          SELECT coalesce(array_agg(f.coupon_id), '{}') INTO hits FROM (
            SELECT m.coupon_id
            FROM (
              SELECT s.coupon_id, s.name_words, s.all_words, s.expires_at FROM coupon_search s
              WHERE s.all_words @@ asked OFFSET 0
            ) m
            WHERE m.coupon_id < from_id AND (with_ended OR m.expires_at > at)
              AND (NOT terms.wide OR m.all_words @@ checked) AND NOT m.name_words @@ checked
            ORDER BY m.coupon_id DESC LIMIT missing
          ) f;
        END IF;
      END IF;

      coupon_ids := coupon_ids || hits;
      tiers := tiers || array_fill(tier, ARRAY[cardinality(hits)]);
      missing := page_size + 1 - cardinality(coupon_ids);
      EXIT WHEN missing = 0;
    END LOOP;

    -- A word stays known when the last coupon that had it is changed or deleted: then it is replaced after all.
    EXIT WHEN cardinality(coupon_ids) > 0 OR cardinality(dropped) > 0;
    SELECT coalesce(array_agg(k.word), '{}') INTO dropped FROM unnest(terms.known) k (word)
    WHERE NOT coupon_has_word(tsquery_of(ARRAY[k.word], ':*'), window_size);
    EXIT WHEN cardinality(dropped) = 0;
  END LOOP;
  RETURN NEXT;
END $$;
