ALTER TABLE "coupons" ADD COLUMN "purged_total" bigint DEFAULT 0 NOT NULL;--> statement-breakpoint
ALTER TABLE "user_coupons" ADD COLUMN "gone_at" timestamp (3) with time zone;--> statement-breakpoint
CREATE INDEX "codes_to_purge" ON "codes" USING btree ("retired_at","id") WHERE "codes"."retired_at" IS NOT NULL AND "codes"."holder_count" = 0;--> statement-breakpoint
CREATE INDEX "user_coupons_gone" ON "user_coupons" USING btree ("gone_at","id") WHERE "user_coupons"."gone_at" IS NOT NULL;--> statement-breakpoint
-- By hand: since when those are gone that were never used.
UPDATE "user_coupons" u SET "gone_at" = least(u."deleted_at", u."released_at")
WHERE (u."deleted_at" IS NOT NULL OR u."released_at" IS NOT NULL) AND u."place_count" = 0
  AND NOT EXISTS (SELECT FROM "usages" s WHERE s."user_id" = u."user_id" AND s."user_coupon_id" = u."id");
