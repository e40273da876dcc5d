CREATE TABLE "usages" (
	"id" uuid PRIMARY KEY NOT NULL,
	"user_coupon_id" uuid NOT NULL,
	"coupon_id" uuid NOT NULL,
	"user_id" text NOT NULL,
	"product_id" text NOT NULL,
	"order_id" text NOT NULL,
	"currency_code" char(3) NOT NULL,
	"order_amount" bigint NOT NULL,
	"discount_amount" bigint NOT NULL,
	"request_id" text,
	"item" smallint NOT NULL,
	"used_at" timestamp (3) with time zone NOT NULL,
	"cancelled_at" timestamp (3) with time zone,
	CONSTRAINT "usages_discount" CHECK ("usages"."discount_amount" BETWEEN 0 AND "usages"."order_amount")
);
--> statement-breakpoint
ALTER TABLE "coupons" ADD COLUMN "max_uses" integer DEFAULT 1 NOT NULL;--> statement-breakpoint
ALTER TABLE "coupons" ADD COLUMN "lock_duration_ms" bigint DEFAULT 300000 NOT NULL;--> statement-breakpoint
ALTER TABLE "coupons" ADD COLUMN "claim_window_ms" bigint;--> statement-breakpoint
ALTER TABLE "coupons" ADD COLUMN "used_count" bigint DEFAULT 0 NOT NULL;--> statement-breakpoint
ALTER TABLE "coupons" ADD COLUMN "place_count" bigint DEFAULT 0 NOT NULL;--> statement-breakpoint
ALTER TABLE "coupons" ADD COLUMN "exhausted_at" timestamp (3) with time zone;--> statement-breakpoint
ALTER TABLE "events" ADD COLUMN "usage_id" uuid;--> statement-breakpoint
ALTER TABLE "user_coupons" ADD COLUMN "max_uses" smallint DEFAULT 1 NOT NULL;--> statement-breakpoint
ALTER TABLE "user_coupons" ADD COLUMN "use_count" smallint DEFAULT 0 NOT NULL;--> statement-breakpoint
ALTER TABLE "user_coupons" ADD COLUMN "place_count" smallint DEFAULT 0 NOT NULL;--> statement-breakpoint
ALTER TABLE "user_coupons" ADD COLUMN "locked_until" timestamp (3) with time zone;--> statement-breakpoint
ALTER TABLE "user_coupons" ADD COLUMN "lock_version" bigint DEFAULT 0 NOT NULL;--> statement-breakpoint
ALTER TABLE "user_coupons" ADD COLUMN "lock_token" text;--> statement-breakpoint
ALTER TABLE "user_coupons" ADD COLUMN "claim_until" timestamp (3) with time zone;--> statement-breakpoint
ALTER TABLE "user_coupons" ADD COLUMN "released_at" timestamp (3) with time zone;--> statement-breakpoint
ALTER TABLE "user_coupons" ADD COLUMN "deleted_at" timestamp (3) with time zone;--> statement-breakpoint
CREATE UNIQUE INDEX "usages_one_per_request" ON "usages" USING btree ("request_id","item") WHERE "usages"."request_id" IS NOT NULL;--> statement-breakpoint
CREATE INDEX "usages_by_user" ON "usages" USING btree ("user_id","id");--> statement-breakpoint
CREATE INDEX "usages_by_coupon" ON "usages" USING btree ("coupon_id","id");--> statement-breakpoint
CREATE INDEX "usages_by_product" ON "usages" USING btree ("product_id","id");--> statement-breakpoint
CREATE INDEX "usages_by_order" ON "usages" USING btree ("order_id","id");--> statement-breakpoint
CREATE INDEX "user_coupons_to_release" ON "user_coupons" USING btree ("claim_until") WHERE "user_coupons"."claim_until" IS NOT NULL;--> statement-breakpoint
ALTER TABLE "coupons" ADD CONSTRAINT "coupons_max_uses" CHECK ("coupons"."max_uses" BETWEEN 1 AND 1000);--> statement-breakpoint
ALTER TABLE "coupons" ADD CONSTRAINT "coupons_never_over_usage_cap" CHECK ("coupons"."place_count" <= "coupons"."usage_cap");--> statement-breakpoint
ALTER TABLE "coupons" ADD CONSTRAINT "coupons_uses_have_places" CHECK ("coupons"."used_count" >= 0 AND "coupons"."used_count" <= "coupons"."place_count");--> statement-breakpoint
ALTER TABLE "user_coupons" ADD CONSTRAINT "user_coupons_never_over_max_uses" CHECK ("user_coupons"."place_count" <= "user_coupons"."max_uses");--> statement-breakpoint
ALTER TABLE "user_coupons" ADD CONSTRAINT "user_coupons_uses_have_places" CHECK ("user_coupons"."use_count" >= 0 AND "user_coupons"."use_count" <= "user_coupons"."place_count");--> statement-breakpoint
-- By hand: drizzle-kit has no storage parameters. A lock or a use changes a row and none of its indexed columns; with room
-- on the page its new version lies beside the old one, and no index is touched.
ALTER TABLE "user_coupons" SET (fillfactor = 70);
