-- By hand, this line: see 0006_labels.sql.
SET LOCAL lock_timeout = '700ms';--> statement-breakpoint
CREATE TABLE "relay_state" (
	"name" text COLLATE "C" PRIMARY KEY NOT NULL,
	"place_seq" bigint,
	"place_xid" text,
	"fence" bigint DEFAULT 0 NOT NULL,
	"holder" text,
	"held_until" timestamp (3) with time zone
);
