-- What the words of a search stand for: one row, or none when a word is like no other.
--
-- `checked` is what a coupon's words are checked with. `asked` is what an index is asked for: the same, but with every prefix
-- spelled out, so that the index need not read all that begin with it to find the few that have the other words, too. A
-- prefix of very many words is left out of it, and `wide` says so. Both are null when there are no words. `known` are
-- the words that were taken as they were typed. A word is looked for among those that coupons have or had, unless it is one
-- of `dropped`.
CREATE OR REPLACE FUNCTION search_terms(query text, dropped text[])
RETURNS TABLE (checked tsquery, asked tsquery, wide boolean, known text[], corrected_query text)
LANGUAGE plpgsql STABLE ROWS 1
SET enable_seqscan = off
SET plan_cache_mode = force_generic_plan
AS $$
DECLARE
  max_words CONSTANT int := 8;
  max_words_of_prefix CONSTANT int := 64;
  max_alike CONSTANT int := 3;
  typed text;
  words text[];
  exact tsquery;
  looked_for text[] := '{}';
BEGIN
  wide := false;
  known := '{}';
  FOR typed IN
    SELECT w.lexeme
    FROM unnest(to_tsvector('simple', translate(lower(query COLLATE "und-x-icu"), '-_./~@<>&+', repeat(' ', 10)))) w
    WHERE w.positions[1] <= max_words ORDER BY w.positions[1]
  LOOP
    SELECT array_agg(p.word) INTO words FROM (
      SELECT s.word FROM search_words s
      WHERE typed <> ALL (dropped) AND s.word >= typed AND s.word < typed || chr(1114111)
      ORDER BY s.word LIMIT max_words_of_prefix + 1
    ) p;
    IF words IS NOT NULL THEN
      known := array_append(known, typed);
      looked_for := array_append(looked_for, typed);
      checked := coalesce(checked && tsquery_of(ARRAY[typed], ':*'), tsquery_of(ARRAY[typed], ':*'));
    ELSE
      SELECT array_agg(l.word) INTO words FROM (
        SELECT s.word FROM search_words s WHERE s.word % typed AND s.word !~ '[0-9]' AND NOT starts_with(s.word, typed)
        ORDER BY similarity(s.word, typed) DESC, s.word LIMIT max_alike
      ) l;
      IF words IS NULL THEN
        RETURN;
      END IF;
      looked_for := array_append(looked_for, words[1]);
      checked := coalesce(checked && tsquery_of(words, ''), tsquery_of(words, ''));
    END IF;
    IF cardinality(words) > max_words_of_prefix THEN
      wide := true;
    ELSE
      exact := tsquery_of(words, '');
      asked := coalesce(asked && exact, exact);
    END IF;
  END LOOP;
  SELECT CASE WHEN known = looked_for THEN '' ELSE string_agg(d.word, ' ' ORDER BY d.ordinal) END INTO corrected_query
  FROM (
    SELECT l.word, min(l.ordinal) AS ordinal FROM unnest(looked_for) WITH ORDINALITY l (word, ordinal) GROUP BY l.word
  ) d;
  RETURN NEXT;
END $$;
