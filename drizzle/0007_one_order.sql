ALTER TABLE "usages" ADD COLUMN "discounted_before" bigint DEFAULT 0 NOT NULL;--> statement-breakpoint
ALTER TABLE "user_coupons" ADD COLUMN "lock_order" text;--> statement-breakpoint
-- By hand: NOT VALID, so that the table is not read under a lock that stops all writes. It holds for what is there, by usages_discount.
ALTER TABLE "usages" ADD CONSTRAINT "usages_order_discount" CHECK ("usages"."discounted_before" BETWEEN 0 AND "usages"."order_amount" - "usages"."discount_amount") NOT VALID;
