CREATE TABLE "coupon_search" (
	"coupon_id" uuid PRIMARY KEY NOT NULL,
	"name" text NOT NULL,
	"category" text NOT NULL,
	"description" text NOT NULL,
	"type" text,
	"discount_kind" text NOT NULL,
	"expires_at" timestamp (3) with time zone NOT NULL,
	"name_words" "tsvector" GENERATED ALWAYS AS (strip(to_tsvector('simple', translate(lower((name) COLLATE "und-x-icu"), '-_./~@<>&+', '          '))) || array_to_tsvector(array_remove(ARRAY[
  '=c ' || lower((category) COLLATE "und-x-icu"), '=t ' || type, '=k ' || discount_kind], NULL))) STORED NOT NULL,
	"all_words" "tsvector" GENERATED ALWAYS AS (strip(to_tsvector('simple', translate(lower((name || ' ' || category || ' ' || description) COLLATE "und-x-icu"), '-_./~@<>&+', '          '))) || array_to_tsvector(array_remove(ARRAY[
  '=c ' || lower((category) COLLATE "und-x-icu"), '=t ' || type, '=k ' || discount_kind], NULL))) STORED NOT NULL
);
--> statement-breakpoint
CREATE TABLE "search_words" (
	"word" text COLLATE "C" PRIMARY KEY NOT NULL
);
--> statement-breakpoint
CREATE INDEX "coupon_search_by_name" ON "coupon_search" USING gin ("name_words") WITH (fastupdate=false);--> statement-breakpoint
CREATE INDEX "coupon_search_by_all" ON "coupon_search" USING gin ("all_words") WITH (fastupdate=false);--> statement-breakpoint
-- By hand, all that follows: what the schema cannot say.
-- The extension may be made by whoever may create in the database: it is a trusted one.
CREATE EXTENSION IF NOT EXISTS pg_trgm;--> statement-breakpoint
-- A mistyped number is like every other number.
CREATE INDEX "search_words_alike" ON "search_words" USING gin ("word" gin_trgm_ops) WHERE "word" !~ '[0-9]';--> statement-breakpoint
-- Brings the rows of these coupons, and the words known, up to date. Words are added in their order, by one statement for all
-- coupons, so that two transactions that add the same ones wait for each other but never in a circle.
CREATE FUNCTION "keep_coupon_search"("coupon_ids" uuid[]) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  DELETE FROM coupon_search s USING coupons c
  WHERE s.coupon_id = ANY (coupon_ids) AND c.id = s.coupon_id AND c.deleted_at IS NOT NULL;

  WITH kept AS (
    INSERT INTO coupon_search (coupon_id, name, category, description, type, discount_kind, expires_at)
    SELECT c.id, c.name, c.category, c.description, c.type,
      CASE WHEN c.percentage_basis_points IS NULL THEN 'FIXED_AMOUNT' ELSE 'PERCENTAGE' END, c.expires_at
    FROM coupons c
    WHERE c.id = ANY (coupon_ids) AND c.deleted_at IS NULL AND NOT c.is_pool
    ORDER BY c.id
    ON CONFLICT (coupon_id) DO UPDATE SET
      name = excluded.name, category = excluded.category, description = excluded.description, type = excluded.type,
      discount_kind = excluded.discount_kind, expires_at = excluded.expires_at
    RETURNING all_words
  ), words AS (
    SELECT DISTINCT word COLLATE "C" AS word FROM kept, unnest(tsvector_to_array(all_words)) word WHERE word !~ '^='
  )
  INSERT INTO search_words
  SELECT word FROM words w WHERE NOT EXISTS (SELECT FROM search_words s WHERE s.word = w.word) ORDER BY word
  ON CONFLICT DO NOTHING;
END $$;--> statement-breakpoint
CREATE FUNCTION "search_created_coupons"() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  PERFORM keep_coupon_search(array_agg(id)) FROM created;
  RETURN NULL;
END $$;--> statement-breakpoint
CREATE FUNCTION "search_changed_coupon"() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  PERFORM keep_coupon_search(ARRAY[NEW.id]);
  RETURN NULL;
END $$;--> statement-breakpoint
CREATE TRIGGER "coupons_search_created" AFTER INSERT ON "coupons" REFERENCING NEW TABLE AS created
FOR EACH STATEMENT EXECUTE FUNCTION "search_created_coupons"();--> statement-breakpoint
-- Only for these columns: issues and uses set others, and must not pay for it.
CREATE TRIGGER "coupons_search_changed"
AFTER UPDATE OF "name", "category", "description", "type", "percentage_basis_points", "expires_at", "deleted_at" ON "coupons"
FOR EACH ROW WHEN (NOT NEW."is_pool" AND (
  OLD."name", OLD."category", OLD."description", OLD."type", OLD."percentage_basis_points" IS NULL, OLD."expires_at", OLD."deleted_at"
) IS DISTINCT FROM (
  NEW."name", NEW."category", NEW."description", NEW."type", NEW."percentage_basis_points" IS NULL, NEW."expires_at", NEW."deleted_at"
)) EXECUTE FUNCTION "search_changed_coupon"();--> statement-breakpoint
-- What is there already. The triggers' locks keep others from adding to it meanwhile.
SELECT keep_coupon_search(array_agg("id")) FROM "coupons";
