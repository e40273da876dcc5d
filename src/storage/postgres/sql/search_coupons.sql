-- One page of SearchCoupons: the coupons' ids, best first, one more than `page_size` when there is another page, with the
-- tier of each: 1 has all words in its name, 2 in name, category and description together. The newest come first in a tier,
-- and a page goes on after (`after_tier`, `after_id`). Without words all are of tier 1. Filters that are null leave all.
--
-- A tier is looked for among the newest coupons first, `window_size` of them for each one that is missing: a word that many
-- have fills the page there, and sorting all that have it would take seconds. Only what is too rare for that is asked of the
-- index, where the filters are words like the others.
CREATE OR REPLACE FUNCTION search_coupons(
  query text, of_category text, of_type text, of_discount_kind text, with_ended boolean, page_size int, after_tier int,
  after_id uuid, window_size int
) RETURNS TABLE (coupon_ids uuid[], tiers int[], corrected_query text)
LANGUAGE plpgsql STABLE
-- The plans are cached while the tables are still small; these ones are right at every size.
SET enable_seqscan = off
SET plan_cache_mode = force_generic_plan
SET jit = off
AS $$
DECLARE
  max_words CONSTANT int := 8;
  -- A prefix of more words is left out of what the index is asked, if there is anything else to ask it.
  max_words_of_prefix CONSTANT int := 64;
  max_alike CONSTANT int := 3;
  -- The window is made this much larger when it has a part of the page that promises the rest there.
  larger CONSTANT int := 8;
  at CONSTANT timestamptz := coupon_clock();
  -- What a coupon's words are checked with, and what an index is asked for: the same with each prefix spelled out, which it
  -- can intersect with other words without reading all that begin with it. `wide` when that is not the whole.
  checked tsquery;
  asked tsquery;
  wide boolean := false;
  with_words boolean := false;
  word text;
  words text[];
  looked_for text[] := '{}';
  corrected boolean := false;
  missing int := page_size + 1;
  from_id uuid;
  found uuid[];
BEGIN
  coupon_ids := '{}';
  tiers := '{}';
  corrected_query := '';

  FOREACH word IN ARRAY array_remove(ARRAY[
    '=c ' || lower(of_category COLLATE "und-x-icu"), '=t ' || of_type, '=k ' || of_discount_kind], NULL)
  LOOP
    checked := coalesce(checked && tsquery_of(ARRAY[word], ''), tsquery_of(ARRAY[word], ''));
  END LOOP;
  asked := checked;

  FOR word IN
    SELECT w.lexeme
    FROM unnest(to_tsvector('simple', translate(lower(query COLLATE "und-x-icu"), '-_./~@<>&+', repeat(' ', 10)))) w
    WHERE w.positions[1] <= max_words ORDER BY w.positions[1]
  LOOP
    with_words := true;
    SELECT array_agg(s.word) INTO words FROM (
      SELECT k.word FROM search_words k WHERE k.word >= word AND k.word < word || chr(1114111)
      ORDER BY k.word LIMIT max_words_of_prefix + 1
    ) s;
    IF words IS NULL THEN
      SELECT array_agg(s.word) INTO words FROM (
        SELECT k.word FROM search_words k WHERE k.word % word AND k.word !~ '[0-9]'
        ORDER BY similarity(k.word, word) DESC, k.word LIMIT max_alike
      ) s;
      IF words IS NULL THEN
        RETURN NEXT;
        RETURN;
      END IF;
      corrected := true;
      looked_for := array_append(looked_for, words[1]);
      checked := coalesce(checked && tsquery_of(words, ''), tsquery_of(words, ''));
      asked := coalesce(asked && tsquery_of(words, ''), tsquery_of(words, ''));
    ELSE
      looked_for := array_append(looked_for, word);
      checked := coalesce(checked && tsquery_of(ARRAY[word], ':*'), tsquery_of(ARRAY[word], ':*'));
      IF cardinality(words) > max_words_of_prefix THEN
        wide := true;
      ELSE
        asked := coalesce(asked && tsquery_of(words, ''), tsquery_of(words, ''));
      END IF;
    END IF;
  END LOOP;
  asked := coalesce(asked, checked);
  IF corrected THEN
    SELECT string_agg(l.word, ' ' ORDER BY l.at) INTO corrected_query
    FROM (SELECT t.word, min(t.at) AS at FROM unnest(looked_for) WITH ORDINALITY t (word, at) GROUP BY t.word) l;
  END IF;

  IF checked IS NULL THEN
    SELECT array_agg(f.coupon_id) INTO found FROM (
      SELECT s.coupon_id FROM coupon_search s
      WHERE s.coupon_id < coalesce(after_id, 'ffffffff-ffff-ffff-ffff-ffffffffffff') AND (with_ended OR s.expires_at > at)
      ORDER BY s.coupon_id DESC LIMIT missing
    ) f;
    coupon_ids := coalesce(found, '{}');
    tiers := array_fill(1, ARRAY[cardinality(coupon_ids)]);
    RETURN NEXT;
    RETURN;
  END IF;

  FOR tier IN coalesce(after_tier, 1) .. CASE WHEN with_words THEN 2 ELSE 1 END LOOP
    from_id := CASE WHEN tier = after_tier THEN after_id ELSE 'ffffffff-ffff-ffff-ffff-ffffffffffff' END;
    found := NULL;
    FOR size IN 1 .. 2 LOOP
      -- A fourth in a window of one size is most probably the whole in one that is eight times as large.
      EXIT WHEN window_size = 0 OR (size = 2 AND cardinality(found) * 4 < missing) OR cardinality(found) = missing;
      SELECT coalesce(array_agg(f.coupon_id), '{}') INTO found FROM (
        SELECT n.coupon_id
        FROM (
          SELECT s.coupon_id, s.name_words, s.all_words, s.expires_at FROM coupon_search s WHERE s.coupon_id < from_id
          ORDER BY s.coupon_id DESC LIMIT window_size * missing * CASE size WHEN 1 THEN 1 ELSE larger END
        ) n
        WHERE (with_ended OR n.expires_at > at)
          AND CASE tier WHEN 1 THEN n.name_words @@ checked ELSE n.all_words @@ checked AND NOT n.name_words @@ checked END
        LIMIT missing
      ) f;
    END LOOP;

    IF cardinality(found) = missing THEN
      -- The page is full.
    ELSIF tier = 1 THEN
      SELECT array_agg(f.coupon_id) INTO found FROM (
        SELECT m.coupon_id
        FROM (SELECT s.coupon_id, s.name_words, s.expires_at FROM coupon_search s WHERE s.name_words @@ asked OFFSET 0) m
        WHERE m.coupon_id < from_id AND (with_ended OR m.expires_at > at) AND (NOT wide OR m.name_words @@ checked)
        ORDER BY m.coupon_id DESC LIMIT missing
      ) f;
    ELSE
      SELECT array_agg(f.coupon_id) INTO found FROM (
        SELECT m.coupon_id
        FROM (
          SELECT s.coupon_id, s.name_words, s.all_words, s.expires_at FROM coupon_search s WHERE s.all_words @@ asked OFFSET 0
        ) m
        WHERE m.coupon_id < from_id AND (with_ended OR m.expires_at > at) AND (NOT wide OR m.all_words @@ checked)
          AND NOT m.name_words @@ checked
        ORDER BY m.coupon_id DESC LIMIT missing
      ) f;
    END IF;

    coupon_ids := coupon_ids || coalesce(found, '{}');
    tiers := tiers || array_fill(tier, ARRAY[coalesce(cardinality(found), 0)]);
    missing := page_size + 1 - cardinality(coupon_ids);
    EXIT WHEN missing = 0;
  END LOOP;
  RETURN NEXT;
END $$;
