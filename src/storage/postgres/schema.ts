import { sql } from "drizzle-orm";
import {
  bigint,
  boolean,
  char,
  check,
  customType,
  index,
  integer,
  jsonb,
  pgTable,
  primaryKey,
  smallint,
  text,
  timestamp,
  uniqueIndex,
  uuid,
} from "drizzle-orm/pg-core";

/** To the millisecond, like everything that leaves the process. */
const moment = (name: string) => timestamp(name, { withTimezone: true, precision: 3, mode: "date" });
const count = (name: string) => bigint(name, { mode: "number" });

/** A 64-bit transaction id, which never wraps around. */
const xid8 = customType<{ data: string }>({ dataType: () => "xid8" });
const bytea = customType<{ data: Uint8Array; driverData: Uint8Array }>({ dataType: () => "bytea" });

/** Coupons are never removed, only marked as deleted: user coupons and events refer to them. */
export const coupons = pgTable(
  "coupons",
  {
    id: uuid("id").primaryKey(),
    name: text("name").notNull(),
    description: text("description").notNull(),
    category: text("category").notNull(),
    /** Exactly one of the next two is set. */
    percentageBasisPoints: integer("percentage_basis_points"),
    fixedAmount: count("fixed_amount"),
    /** Of every amount of this coupon; null when it has none. */
    currencyCode: char("currency_code", { length: 3 }),
    maximumAmount: count("maximum_amount"),
    minimumOrderAmount: count("minimum_order_amount"),
    startsAt: moment("starts_at").notNull(),
    expiresAt: moment("expires_at").notNull(),
    /** null: unlimited. */
    quantity: count("quantity"),
    validityAfterIssueMs: count("validity_after_issue_ms"),
    maxPerUser: integer("max_per_user").notNull(),
    usageCap: count("usage_cap"),
    stackable: boolean("stackable").notNull(),
    issuedCount: count("issued_count").notNull().default(0),
    /** Grows with each change of the definition. The reservation layer's copy is current when it has the same one. */
    revision: count("revision").notNull().default(1),
    createdAt: moment("created_at").notNull(),
    updatedAt: moment("updated_at").notNull(),
    pausedAt: moment("paused_at"),
    deletedAt: moment("deleted_at"),
    revokedAt: moment("revoked_at"),
  },
  (t) => [
    check("coupons_never_over_quantity", sql`${t.issuedCount} >= 0 AND ${t.issuedCount} <= ${t.quantity}`),
    check("coupons_one_discount", sql`(${t.percentageBasisPoints} IS NULL) <> (${t.fixedAmount} IS NULL)`),
    check("coupons_percentage", sql`${t.percentageBasisPoints} BETWEEN 1 AND 10000`),
    check("coupons_window", sql`${t.startsAt} < ${t.expiresAt}`),
    check("coupons_max_per_user", sql`${t.maxPerUser} BETWEEN 1 AND 100`),
    index("coupons_not_deleted").on(t.id).where(sql`${t.deletedAt} IS NULL`),
  ],
);

export const userCoupons = pgTable(
  "user_coupons",
  {
    id: uuid("id").primaryKey(),
    /**
     * Of a row in `coupons`, which are never removed. Not a foreign key: its trigger runs for each row and took 40% of
     * a batch, while `issue_user_coupons`, the only writer, reads this id from the coupon that it has locked.
     */
    couponId: uuid("coupon_id").notNull(),
    userId: text("user_id").notNull(),
    /** 1 to the coupon's max_per_user while it is live; null when it has given up its place. */
    slot: smallint("slot"),
    /** null: the caller gave none. */
    requestId: text("request_id"),
    issuedAt: moment("issued_at").notNull(),
    /** null: until the coupon's own expire time. */
    validUntil: moment("valid_until"),
  },
  (t) => [
    // Each slot once; rows without one do not clash, and are here because this index also lists what a user has. An
    // index is most of what a row costs to insert, so this one serves both.
    uniqueIndex("user_coupons_one_per_slot").on(t.userId, t.couponId, t.slot),
    uniqueIndex("user_coupons_one_per_request").on(t.requestId).where(sql`${t.requestId} IS NOT NULL`),
    // Grows at its end only, for ids are in the order of time.
    index("user_coupons_by_coupon").on(t.couponId, t.id),
  ],
);

/**
 * What happened, appended in the transaction in which it happened. `seq` is given out while the coupon's row is locked,
 * so the events of one coupon are in order by it. Transactions become visible in another order than they drew their
 * numbers: a reader must not go past the oldest transaction that is still open, which is what `xid` is kept for.
 */
export const events = pgTable(
  "events",
  {
    seq: bigint("seq", { mode: "number" }).generatedAlwaysAsIdentity(),
    xid: xid8("xid").notNull().default(sql`pg_current_xact_id()`),
    kind: text("kind").notNull(),
    happenedAt: moment("happened_at").notNull(),
    couponId: uuid("coupon_id").notNull(),
    userCouponId: uuid("user_coupon_id"),
    userId: text("user_id"),
    /** For events of a coupon: its row after the change. */
    detail: jsonb("detail"),
  },
  (t) => [primaryKey({ columns: [t.seq] })],
);

/** Requests that changed a coupon, so that a repeated one gets the first one's answer. */
export const requests = pgTable(
  "requests",
  {
    method: text("method").notNull(),
    requestId: text("request_id").notNull(),
    /** SHA-256 of the input. */
    inputHash: bytea("input_hash").notNull(),
    /** The coupon's row as the call left it. */
    answer: jsonb("answer").notNull(),
    createdAt: moment("created_at").notNull(),
  },
  (t) => [primaryKey({ columns: [t.method, t.requestId] }), index("requests_by_age").on(t.createdAt)],
);
