DROP INDEX "quota_days_by_day";--> statement-breakpoint
DROP INDEX "user_coupons_by_coupon";--> statement-breakpoint
CREATE INDEX "quota_days_by_day" ON "quota_days" USING btree ("day") WHERE "quota_days"."issued_count" >= 0;--> statement-breakpoint
CREATE INDEX "user_coupons_by_coupon" ON "user_coupons" USING btree ("coupon_id","id") WHERE "user_coupons"."max_uses" > 0;--> statement-breakpoint
-- By hand: functions are replaced at start, but not one with other parameters. This one knows nothing of the counters.
DROP FUNCTION IF EXISTS issue_user_coupons(uuid[], uuid[], text[], text[], boolean);
