-- Any of these words, each followed by `suffix`: ':*' for all that begin with it. Nothing in a word has a meaning.
CREATE OR REPLACE FUNCTION tsquery_of(words text[], suffix text) RETURNS tsquery LANGUAGE sql STABLE
RETURN (
  SELECT string_agg('''' || replace(replace(word, '\', '\\'), '''', '''''') || '''' || suffix, ' | ')
  FROM unnest(words) word
)::tsquery;
