ALTER TABLE "coupons" ADD COLUMN "free_from" bigint DEFAULT 0 NOT NULL;--> statement-breakpoint
-- By hand, what follows. Whatever frees a code, or adds some, in this release or in the one before, says so: by triggers, which
-- cost nothing while codes are only taken. Both happen under the lock of the coupon's row.
CREATE FUNCTION "lower_free_from"() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  UPDATE coupons c SET free_from = NEW.pick_key WHERE c.id = NEW.coupon_id AND c.free_from > NEW.pick_key;
  RETURN NULL;
END $$;--> statement-breakpoint
CREATE FUNCTION "reset_free_from"() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  NEW.free_from := 0;
  RETURN NEW;
END $$;--> statement-breakpoint
CREATE TRIGGER "codes_freed" AFTER UPDATE OF "holder_count" ON "codes"
FOR EACH ROW WHEN (NEW."holder_count" < OLD."holder_count") EXECUTE FUNCTION "lower_free_from"();--> statement-breakpoint
CREATE TRIGGER "coupons_codes_added" BEFORE UPDATE OF "code_total" ON "coupons"
FOR EACH ROW WHEN (NEW."code_total" > OLD."code_total") EXECUTE FUNCTION "reset_free_from"();
