CREATE TABLE "coupons" (
	"id" uuid PRIMARY KEY NOT NULL,
	"name" text NOT NULL,
	"description" text NOT NULL,
	"category" text NOT NULL,
	"percentage_basis_points" integer,
	"fixed_amount" bigint,
	"currency_code" char(3),
	"maximum_amount" bigint,
	"minimum_order_amount" bigint,
	"starts_at" timestamp (3) with time zone NOT NULL,
	"expires_at" timestamp (3) with time zone NOT NULL,
	"quantity" bigint,
	"validity_after_issue_ms" bigint,
	"max_per_user" integer NOT NULL,
	"usage_cap" bigint,
	"stackable" boolean NOT NULL,
	"issued_count" bigint DEFAULT 0 NOT NULL,
	"revision" bigint DEFAULT 1 NOT NULL,
	"created_at" timestamp (3) with time zone NOT NULL,
	"updated_at" timestamp (3) with time zone NOT NULL,
	"paused_at" timestamp (3) with time zone,
	"deleted_at" timestamp (3) with time zone,
	"revoked_at" timestamp (3) with time zone,
	CONSTRAINT "coupons_never_over_quantity" CHECK ("coupons"."issued_count" >= 0 AND "coupons"."issued_count" <= "coupons"."quantity"),
	CONSTRAINT "coupons_one_discount" CHECK (("coupons"."percentage_basis_points" IS NULL) <> ("coupons"."fixed_amount" IS NULL)),
	CONSTRAINT "coupons_percentage" CHECK ("coupons"."percentage_basis_points" BETWEEN 1 AND 10000),
	CONSTRAINT "coupons_window" CHECK ("coupons"."starts_at" < "coupons"."expires_at"),
	CONSTRAINT "coupons_max_per_user" CHECK ("coupons"."max_per_user" BETWEEN 1 AND 100)
);
--> statement-breakpoint
CREATE TABLE "events" (
	"seq" bigint GENERATED ALWAYS AS IDENTITY (sequence name "events_seq_seq" INCREMENT BY 1 MINVALUE 1 MAXVALUE 9223372036854775807 START WITH 1 CACHE 1),
	"xid" "xid8" DEFAULT pg_current_xact_id() NOT NULL,
	"kind" text NOT NULL,
	"happened_at" timestamp (3) with time zone NOT NULL,
	"coupon_id" uuid NOT NULL,
	"user_coupon_id" uuid,
	"user_id" text,
	"detail" jsonb,
	CONSTRAINT "events_seq_pk" PRIMARY KEY("seq")
);
--> statement-breakpoint
CREATE TABLE "requests" (
	"method" text NOT NULL,
	"request_id" text NOT NULL,
	"input_hash" "bytea" NOT NULL,
	"answer" jsonb NOT NULL,
	"created_at" timestamp (3) with time zone NOT NULL,
	CONSTRAINT "requests_method_request_id_pk" PRIMARY KEY("method","request_id")
);
--> statement-breakpoint
CREATE TABLE "user_coupons" (
	"id" uuid PRIMARY KEY NOT NULL,
	"coupon_id" uuid NOT NULL,
	"user_id" text NOT NULL,
	"slot" smallint,
	"request_id" text,
	"issued_at" timestamp (3) with time zone NOT NULL,
	"valid_until" timestamp (3) with time zone
);
--> statement-breakpoint
CREATE INDEX "coupons_not_deleted" ON "coupons" USING btree ("id") WHERE "coupons"."deleted_at" IS NULL;--> statement-breakpoint
CREATE INDEX "requests_by_age" ON "requests" USING btree ("created_at");--> statement-breakpoint
CREATE UNIQUE INDEX "user_coupons_one_per_slot" ON "user_coupons" USING btree ("user_id","coupon_id","slot");--> statement-breakpoint
CREATE UNIQUE INDEX "user_coupons_one_per_request" ON "user_coupons" USING btree ("request_id") WHERE "user_coupons"."request_id" IS NOT NULL;--> statement-breakpoint
CREATE INDEX "user_coupons_by_coupon" ON "user_coupons" USING btree ("coupon_id","id");