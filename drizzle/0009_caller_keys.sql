CREATE TABLE "caller_keys" (
	"id" text PRIMARY KEY NOT NULL,
	"seq" bigint GENERATED ALWAYS AS IDENTITY (sequence name "caller_keys_seq_seq" INCREMENT BY 1 MINVALUE 1 MAXVALUE 9223372036854775807 START WITH 1 CACHE 1),
	"caller" text NOT NULL,
	"scopes" text NOT NULL,
	"hash" "bytea" NOT NULL,
	"created_at" timestamp (3) with time zone NOT NULL,
	"expires_at" timestamp (3) with time zone,
	"revoked_at" timestamp (3) with time zone,
	"replaced_id" text,
	"changed_xid" "xid8" DEFAULT pg_current_xact_id() NOT NULL,
	CONSTRAINT "caller_keys_seq_unique" UNIQUE("seq"),
	CONSTRAINT "caller_keys_hash" CHECK (length("caller_keys"."hash") = 32)
);
--> statement-breakpoint
CREATE TABLE "callers" (
	"name" text PRIMARY KEY NOT NULL,
	"created_at" timestamp (3) with time zone NOT NULL,
	"limits" jsonb
);
--> statement-breakpoint
ALTER TABLE "caller_keys" ADD CONSTRAINT "caller_keys_caller_callers_name_fk" FOREIGN KEY ("caller") REFERENCES "public"."callers"("name") ON DELETE no action ON UPDATE no action;--> statement-breakpoint
CREATE INDEX "caller_keys_of_caller" ON "caller_keys" USING btree ("caller","seq");--> statement-breakpoint
CREATE INDEX "caller_keys_changed" ON "caller_keys" USING btree ("changed_xid");