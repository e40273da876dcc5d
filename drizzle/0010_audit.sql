-- By hand, this line: see 0006_labels.sql.
SET LOCAL lock_timeout = '700ms';--> statement-breakpoint
-- By hand: that it is partitioned. The months are made by keep_audit_partitions.sql.
CREATE TABLE "audit_records" (
	"id" uuid NOT NULL,
	"happened_at" timestamp (3) with time zone NOT NULL,
	"principal" text COLLATE "C" NOT NULL,
	"method" text COLLATE "C" NOT NULL,
	"request_id" text NOT NULL,
	"caller_request_id" text NOT NULL,
	"outcome" text NOT NULL,
	"target_id" text COLLATE "C",
	"before" jsonb,
	"after" jsonb,
	CONSTRAINT "audit_records_id_pk" PRIMARY KEY("id")
) PARTITION BY RANGE ("id");
--> statement-breakpoint
CREATE INDEX "audit_records_of_principal" ON "audit_records" USING btree ("principal","id");--> statement-breakpoint
CREATE INDEX "audit_records_of_method" ON "audit_records" USING btree ("method","id");--> statement-breakpoint
CREATE INDEX "audit_records_of_target" ON "audit_records" USING btree ("target_id","id");--> statement-breakpoint
-- By hand, all of the rest. What is of a month without a partition is here, so that no record fails for want of one.
CREATE TABLE "audit_records_rest" PARTITION OF "audit_records" DEFAULT;--> statement-breakpoint
CREATE FUNCTION "keep_record_as_it_is"() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  RAISE EXCEPTION 'what is on record stays as it is' USING ERRCODE = 'insufficient_privilege';
END
$$;--> statement-breakpoint
-- Each partition gets the first one by itself; the second one has to be made for each, as keep_audit_partitions.sql does.
CREATE TRIGGER "audit_records_stay" BEFORE UPDATE OR DELETE ON "audit_records"
  FOR EACH ROW EXECUTE FUNCTION "keep_record_as_it_is"();--> statement-breakpoint
CREATE TRIGGER "audit_records_all_stay" BEFORE TRUNCATE ON "audit_records"
  FOR EACH STATEMENT EXECUTE FUNCTION "keep_record_as_it_is"();--> statement-breakpoint
CREATE TRIGGER "audit_records_all_stay" BEFORE TRUNCATE ON "audit_records_rest"
  FOR EACH STATEMENT EXECUTE FUNCTION "keep_record_as_it_is"();
