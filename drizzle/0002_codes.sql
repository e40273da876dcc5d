CREATE TABLE "code_jobs" (
	"id" uuid PRIMARY KEY NOT NULL,
	"coupon_id" uuid NOT NULL,
	"pattern" text NOT NULL,
	"terms" jsonb NOT NULL,
	"count" integer NOT NULL,
	"made_count" integer DEFAULT 0 NOT NULL,
	"created_at" timestamp (3) with time zone NOT NULL,
	"ended_at" timestamp (3) with time zone,
	"failure" text,
	CONSTRAINT "code_jobs_never_over_count" CHECK ("code_jobs"."made_count" BETWEEN 0 AND "code_jobs"."count")
);
--> statement-breakpoint
CREATE TABLE "codes" (
	"id" bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY (sequence name "codes_id_seq" INCREMENT BY 1 MINVALUE 1 MAXVALUE 9223372036854775807 START WITH 1 CACHE 1),
	"coupon_id" uuid NOT NULL,
	"code" text NOT NULL,
	"code_key" text COLLATE "C" NOT NULL,
	"discount" jsonb,
	"expires_at" timestamp (3) with time zone,
	"max_uses" smallint,
	"max_holders" integer DEFAULT 1 NOT NULL,
	"holder_count" integer DEFAULT 0 NOT NULL,
	"pick_key" bigint NOT NULL,
	"created_at" timestamp (3) with time zone NOT NULL,
	"retired_at" timestamp (3) with time zone,
	CONSTRAINT "codes_never_over_max_holders" CHECK ("codes"."holder_count" BETWEEN 0 AND "codes"."max_holders")
);
--> statement-breakpoint
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
CREATE TABLE "quota_days" (
	"quota_group" text NOT NULL,
	"user_id" text NOT NULL,
	"day" date NOT NULL,
	"issued_count" integer NOT NULL,
	CONSTRAINT "quota_days_quota_group_user_id_day_pk" PRIMARY KEY("quota_group","user_id","day"),
	CONSTRAINT "quota_days_count" CHECK ("quota_days"."issued_count" >= 0)
);
--> statement-breakpoint
CREATE TABLE "search_words" (
	"word" text COLLATE "C" PRIMARY KEY NOT NULL
);
--> statement-breakpoint
DROP INDEX "user_coupons_by_coupon";--> statement-breakpoint
ALTER TABLE "coupons" ADD COLUMN "type" text;--> statement-breakpoint
ALTER TABLE "coupons" ADD COLUMN "throttle_concurrent" integer;--> statement-breakpoint
ALTER TABLE "coupons" ADD COLUMN "throttle_per_second" integer;--> statement-breakpoint
ALTER TABLE "coupons" ADD COLUMN "throttle_wait_ms" integer;--> statement-breakpoint
ALTER TABLE "coupons" ADD COLUMN "quota_group" text;--> statement-breakpoint
ALTER TABLE "coupons" ADD COLUMN "quota_per_day" integer;--> statement-breakpoint
ALTER TABLE "coupons" ADD COLUMN "is_code_book" boolean DEFAULT false NOT NULL;--> statement-breakpoint
ALTER TABLE "coupons" ADD COLUMN "exact_codes" boolean DEFAULT false NOT NULL;--> statement-breakpoint
ALTER TABLE "coupons" ADD COLUMN "is_pool" boolean DEFAULT false NOT NULL;--> statement-breakpoint
ALTER TABLE "coupons" ADD COLUMN "code_total" bigint DEFAULT 0 NOT NULL;--> statement-breakpoint
ALTER TABLE "coupons" ADD COLUMN "issued_total" bigint DEFAULT 0 NOT NULL;--> statement-breakpoint
ALTER TABLE "coupons" ADD COLUMN "deleted_total" bigint DEFAULT 0 NOT NULL;--> statement-breakpoint
ALTER TABLE "coupons" ADD COLUMN "released_total" bigint DEFAULT 0 NOT NULL;--> statement-breakpoint
ALTER TABLE "coupons" ADD COLUMN "cancelled_total" bigint DEFAULT 0 NOT NULL;--> statement-breakpoint
ALTER TABLE "coupons" ADD COLUMN "used_up_count" bigint DEFAULT 0 NOT NULL;--> statement-breakpoint
ALTER TABLE "coupons" ADD COLUMN "placed_holder_count" bigint DEFAULT 0 NOT NULL;--> statement-breakpoint
ALTER TABLE "coupons" ADD COLUMN "lapsed_count" bigint DEFAULT 0 NOT NULL;--> statement-breakpoint
ALTER TABLE "coupons" ADD COLUMN "purged_total" bigint DEFAULT 0 NOT NULL;--> statement-breakpoint
ALTER TABLE "user_coupons" ADD COLUMN "code_id" bigint;--> statement-breakpoint
ALTER TABLE "user_coupons" ADD COLUMN "code" text;--> statement-breakpoint
ALTER TABLE "user_coupons" ADD COLUMN "discount" jsonb;--> statement-breakpoint
ALTER TABLE "user_coupons" ADD COLUMN "lapse_at" timestamp (3) with time zone;--> statement-breakpoint
ALTER TABLE "user_coupons" ADD COLUMN "lapsed" boolean DEFAULT false NOT NULL;--> statement-breakpoint
ALTER TABLE "user_coupons" ADD COLUMN "gone_at" timestamp (3) with time zone;--> statement-breakpoint
CREATE INDEX "code_jobs_running" ON "code_jobs" USING btree ("id") WHERE "code_jobs"."ended_at" IS NULL;--> statement-breakpoint
CREATE UNIQUE INDEX "codes_one_per_key" ON "codes" USING btree ("code_key");--> statement-breakpoint
CREATE INDEX "codes_free" ON "codes" USING btree ("coupon_id","pick_key") WHERE "codes"."holder_count" < "codes"."max_holders" AND "codes"."retired_at" IS NULL;--> statement-breakpoint
CREATE INDEX "codes_by_coupon" ON "codes" USING btree ("coupon_id","id");--> statement-breakpoint
CREATE INDEX "codes_to_purge" ON "codes" USING btree ("retired_at","id") WHERE "codes"."retired_at" IS NOT NULL AND "codes"."holder_count" = 0;--> statement-breakpoint
CREATE INDEX "codes_to_retire" ON "codes" USING btree ("expires_at") WHERE "codes"."expires_at" IS NOT NULL AND "codes"."retired_at" IS NULL;--> statement-breakpoint
CREATE INDEX "coupon_search_by_name" ON "coupon_search" USING gin ("name_words") WITH (fastupdate=false);--> statement-breakpoint
CREATE INDEX "coupon_search_by_all" ON "coupon_search" USING gin ("all_words") WITH (fastupdate=false);--> statement-breakpoint
CREATE INDEX "quota_days_by_day" ON "quota_days" USING btree ("day") WHERE "quota_days"."issued_count" >= 0;--> statement-breakpoint
CREATE UNIQUE INDEX "coupons_one_pool_per_type" ON "coupons" USING btree ("type") WHERE "coupons"."is_pool" AND "coupons"."deleted_at" IS NULL;--> statement-breakpoint
CREATE INDEX "coupons_by_type" ON "coupons" USING btree ("type","expires_at") WHERE "coupons"."type" IS NOT NULL;--> statement-breakpoint
CREATE INDEX "usages_cancelled" ON "usages" USING btree ("coupon_id") WHERE "usages"."cancelled_at" IS NOT NULL;--> statement-breakpoint
CREATE INDEX "user_coupons_by_code" ON "user_coupons" USING btree ("code_id","id") WHERE "user_coupons"."code_id" IS NOT NULL;--> statement-breakpoint
CREATE INDEX "user_coupons_to_lapse" ON "user_coupons" USING btree ("lapse_at") WHERE "user_coupons"."lapse_at" IS NOT NULL;--> statement-breakpoint
CREATE INDEX "user_coupons_gone" ON "user_coupons" USING btree ("gone_at","id") WHERE "user_coupons"."gone_at" IS NOT NULL;--> statement-breakpoint
CREATE INDEX "user_coupons_by_coupon" ON "user_coupons" USING btree ("coupon_id","id") WHERE "user_coupons"."max_uses" > 0;--> statement-breakpoint
ALTER TABLE "coupons" ADD CONSTRAINT "coupons_type" CHECK ("coupons"."type" IN ('FREE', 'STANDARD', 'MEGADEAL'));--> statement-breakpoint
ALTER TABLE "coupons" ADD CONSTRAINT "coupons_throttle" CHECK (num_nulls("coupons"."throttle_concurrent", "coupons"."throttle_per_second", "coupons"."throttle_wait_ms") IN (0, 3));--> statement-breakpoint
ALTER TABLE "coupons" ADD CONSTRAINT "coupons_quota" CHECK (("coupons"."quota_group" IS NULL) = ("coupons"."quota_per_day" IS NULL));--> statement-breakpoint
ALTER TABLE "coupons" ADD CONSTRAINT "coupons_books_have_quantities" CHECK (NOT "coupons"."is_code_book" OR "coupons"."quantity" IS NOT NULL);--> statement-breakpoint
-- By hand: the counters of what was there before.
UPDATE "coupons" c SET
  "issued_total" = n."issued", "deleted_total" = n."deleted", "released_total" = n."released",
  "used_up_count" = n."used_up", "placed_holder_count" = n."placed"
FROM (
  SELECT "coupon_id", count(*) AS "issued",
    count(*) FILTER (WHERE "deleted_at" IS NOT NULL) AS "deleted",
    count(*) FILTER (WHERE "deleted_at" IS NULL AND "released_at" IS NOT NULL) AS "released",
    count(*) FILTER (WHERE "deleted_at" IS NULL AND "released_at" IS NULL AND "use_count" >= "max_uses") AS "used_up",
    count(*) FILTER (WHERE "deleted_at" IS NULL AND "released_at" IS NULL AND "place_count" > 0) AS "placed"
  FROM "user_coupons" GROUP BY "coupon_id"
) n
WHERE c."id" = n."coupon_id";--> statement-breakpoint
UPDATE "coupons" c SET "cancelled_total" = n."cancelled"
FROM (SELECT "coupon_id", count(*) AS "cancelled" FROM "usages" WHERE "cancelled_at" IS NOT NULL GROUP BY "coupon_id") n
WHERE c."id" = n."coupon_id";--> statement-breakpoint
UPDATE "user_coupons" SET "lapse_at" = "valid_until"
WHERE "valid_until" IS NOT NULL AND "use_count" < "max_uses" AND "deleted_at" IS NULL AND "released_at" IS NULL;
--> statement-breakpoint
-- By hand: functions are replaced at start, but not one with other parameters. This one knows nothing of the counters.
DROP FUNCTION IF EXISTS issue_user_coupons(uuid[], uuid[], text[], text[], boolean);
--> statement-breakpoint
-- By hand: since when those are gone that were never used.
UPDATE "user_coupons" u SET "gone_at" = least(u."deleted_at", u."released_at")
WHERE (u."deleted_at" IS NOT NULL OR u."released_at" IS NOT NULL) AND u."place_count" = 0
  AND NOT EXISTS (SELECT FROM "usages" s WHERE s."user_id" = u."user_id" AND s."user_coupon_id" = u."id");
--> statement-breakpoint
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
