-- By hand, this line: less than the time after which Postgres looks for deadlocks. Callers take locks on these tables in several orders;
-- where one and this migration wait for each other, the migration gives way, and is done again.
SET LOCAL lock_timeout = '700ms';--> statement-breakpoint
ALTER TABLE "coupons" ADD COLUMN "labels" jsonb;--> statement-breakpoint
ALTER TABLE "usages" ADD COLUMN "code" text;--> statement-breakpoint
ALTER TABLE "usages" ADD COLUMN "coupon_name" text;--> statement-breakpoint
ALTER TABLE "usages" ADD COLUMN "coupon_type" text;--> statement-breakpoint
ALTER TABLE "usages" ADD COLUMN "labels" jsonb;--> statement-breakpoint
ALTER TABLE "user_coupons" ADD COLUMN "labels" jsonb;