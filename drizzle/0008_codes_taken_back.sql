-- By hand, this line: see 0006_labels.sql.
SET LOCAL lock_timeout = '700ms';--> statement-breakpoint
CREATE TABLE "code_sources" (
	"id" uuid PRIMARY KEY NOT NULL,
	"coupon_id" uuid NOT NULL,
	"first_code_id" bigint NOT NULL,
	"last_code_id" bigint NOT NULL
);
--> statement-breakpoint
ALTER TABLE "codes" ADD COLUMN "source_id" uuid;