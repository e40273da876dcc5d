CREATE TABLE "stats_snapshots" (
	"scope" text PRIMARY KEY NOT NULL,
	"read_at" timestamp (3) with time zone NOT NULL,
	"asked_at" timestamp (3) with time zone NOT NULL,
	"took_ms" integer DEFAULT 0 NOT NULL,
	"coupon_count" bigint NOT NULL,
	"code_count" bigint NOT NULL,
	"issued_count" bigint NOT NULL,
	"deleted_count" bigint NOT NULL,
	"released_count" bigint NOT NULL,
	"used_count" bigint NOT NULL,
	"cancelled_count" bigint NOT NULL,
	"revoked_count" bigint NOT NULL,
	"expired_count" bigint NOT NULL
);
