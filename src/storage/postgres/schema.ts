import { sql } from "drizzle-orm";
import {
  bigint,
  boolean,
  char,
  check,
  customType,
  date,
  timestamp as drizzleTimestamp,
  index,
  integer,
  jsonb,
  pgTable,
  primaryKey,
  smallint,
  text,
  uniqueIndex,
  uuid,
} from "drizzle-orm/pg-core";
import type { Labels } from "../../domain/labels.js";

/** To the millisecond, like everything that leaves the process. */
const timestamp = (name: string) => drizzleTimestamp(name, { withTimezone: true, precision: 3, mode: "date" });
const count = (name: string) => bigint(name, { mode: "number" });

/** A 64-bit transaction id, which never wraps around. */
const xid8 = customType<{ data: string }>({ dataType: () => "xid8" });
/** In the order of its bytes, whatever the database's locale is: faster to compare, and the order in which codes are locked. */
const bytewiseText = customType<{ data: string }>({ dataType: () => 'text COLLATE "C"' });
const tsvector = customType<{ data: string }>({ dataType: () => "tsvector" });
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
    startsAt: timestamp("starts_at").notNull(),
    expiresAt: timestamp("expires_at").notNull(),
    /** null: unlimited. */
    quantity: count("quantity"),
    validityAfterIssueMs: count("validity_after_issue_ms"),
    maxPerUser: integer("max_per_user").notNull(),
    usageCap: count("usage_cap"),
    stackable: boolean("stackable").notNull(),
    maxUses: integer("max_uses").notNull().default(1),
    lockDurationMs: count("lock_duration_ms").notNull().default(300_000),
    /** null: what is not used stays the user's. */
    claimWindowMs: count("claim_window_ms"),
    issuedCount: count("issued_count").notNull().default(0),
    /** Uses that stand. */
    usedCount: count("used_count").notNull().default(0),
    /** Places taken under the usage cap: the sum of those of its user coupons. */
    placeCount: count("place_count").notNull().default(0),
    /** When the places reached the usage cap. */
    exhaustedAt: timestamp("exhausted_at"),
    /** Grows with each change of the definition. The gate's copy is current when it has the same one. */
    revision: count("revision").notNull().default(1),
    createdAt: timestamp("created_at").notNull(),
    updatedAt: timestamp("updated_at").notNull(),
    pausedAt: timestamp("paused_at"),
    deletedAt: timestamp("deleted_at"),
    revokedAt: timestamp("revoked_at"),
    /** FREE, STANDARD or MEGADEAL; null: none. */
    type: text("type"),
    /** The throttle: all three or none. */
    throttleConcurrent: integer("throttle_concurrent"),
    throttlePerSecond: integer("throttle_per_second"),
    throttleWaitMs: integer("throttle_wait_ms"),
    /** The quota: both or none. The group never changes. */
    quotaGroup: text("quota_group"),
    quotaPerDay: integer("quota_per_day"),
    /** Its stock is its codes: `quantity` is the number of users that they may be held by. Never changes. */
    isCodeBook: boolean("is_code_book").notNull().default(false),
    /** Whether its codes are told apart by case and separators. Never changes. */
    exactCodes: boolean("exact_codes").notNull().default(false),
    /** Whether it is a type pool: that of its type. */
    isPool: boolean("is_pool").notNull().default(false),
    /** None of its codes that can be issued comes before this `pick_key`: there is where to begin to look for one. */
    freeFrom: count("free_from").notNull().default(0),
    /** Codes ever added. */
    codeTotal: count("code_total").notNull().default(0),
    /** User coupons ever issued, and of those deleted and released: `issued_count` goes back, these never do. */
    issuedTotal: count("issued_total").notNull().default(0),
    deletedTotal: count("deleted_total").notNull().default(0),
    releasedTotal: count("released_total").notNull().default(0),
    /** Uses ever cancelled. */
    cancelledTotal: count("cancelled_total").notNull().default(0),
    /** Of the user coupons that are neither deleted nor released: those used up, and those with a place under the cap. */
    usedUpCount: count("used_up_count").notNull().default(0),
    placedHolderCount: count("placed_holder_count").notNull().default(0),
    /** Of the same: those whose own validity was seen to have run out before they were used up. */
    lapsedCount: count("lapsed_count").notNull().default(0),
    /** Of the same: those whose rows were purged. They count as expired and never used. */
    purgedTotal: count("purged_total").notNull().default(0),
    /** The caller's own metadata; null: none. */
    labels: jsonb("labels").$type<Labels>(),
  },
  (t) => [
    check("coupons_type", sql`${t.type} IN ('FREE', 'STANDARD', 'MEGADEAL')`),
    check(
      "coupons_throttle",
      sql`num_nulls(${t.throttleConcurrent}, ${t.throttlePerSecond}, ${t.throttleWaitMs}) IN (0, 3)`,
    ),
    check("coupons_quota", sql`(${t.quotaGroup} IS NULL) = (${t.quotaPerDay} IS NULL)`),
    check("coupons_books_have_quantities", sql`NOT ${t.isCodeBook} OR ${t.quantity} IS NOT NULL`),
    uniqueIndex("coupons_one_pool_per_type").on(t.type).where(sql`${t.isPool} AND ${t.deletedAt} IS NULL`),
    // One without those that cannot be issued is in large-indexes.ts.
    index("coupons_by_type").on(t.type, t.expiresAt).where(sql`${t.type} IS NOT NULL`),
    check("coupons_never_over_quantity", sql`${t.issuedCount} >= 0 AND ${t.issuedCount} <= ${t.quantity}`),
    check("coupons_one_discount", sql`(${t.percentageBasisPoints} IS NULL) <> (${t.fixedAmount} IS NULL)`),
    check("coupons_percentage", sql`${t.percentageBasisPoints} BETWEEN 1 AND 10000`),
    check("coupons_window", sql`${t.startsAt} < ${t.expiresAt}`),
    check("coupons_max_uses", sql`${t.maxUses} BETWEEN 1 AND 1000`),
    check("coupons_never_over_usage_cap", sql`${t.placeCount} <= ${t.usageCap}`),
    check("coupons_uses_have_places", sql`${t.usedCount} >= 0 AND ${t.usedCount} <= ${t.placeCount}`),
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
    /** 1 to the coupon's max_per_user while it is live; null when it has given its slot up. */
    slot: smallint("slot"),
    /** null: the caller gave none. */
    requestId: text("request_id"),
    issuedAt: timestamp("issued_at").notNull(),
    /** null: until the coupon's own expire time. */
    validUntil: timestamp("valid_until"),
    /** What the coupon's `max_uses` was when it was issued. */
    maxUses: smallint("max_uses").notNull().default(1),
    /** Uses that stand. */
    useCount: smallint("use_count").notNull().default(0),
    /** Places taken under the coupon's usage cap. A cancelled use keeps its own. */
    placeCount: smallint("place_count").notNull().default(0),
    lockedUntil: timestamp("locked_until"),
    /** Grows with each lock, so that a holder of an earlier one can do no harm. No two of one coupon ever have the same. 0: never locked. */
    lockVersion: bigint("lock_version", { mode: "number" }).notNull().default(0),
    /** Names the call that was granted the lock. */
    lockToken: text("lock_token"),
    /**
     * What it was locked for: `lock_version`, a space, the order's id. Where the version is another one, a release that does not
     * know of this has locked it since.
     */
    lockOrder: text("lock_order"),
    /** Unless it is used before, it goes back into stock then; null: never, or it was used. */
    claimUntil: timestamp("claim_until"),
    releasedAt: timestamp("released_at"),
    deletedAt: timestamp("deleted_at"),
    /** The code that it carries; null: its coupon is not a code book. */
    codeId: count("code_id"),
    code: text("code"),
    /** The code's own discount, as the domain has it; null: the coupon's holds. */
    discount: jsonb("discount"),
    /** `valid_until`, while it is neither used up nor counted as expired, nor deleted or released. */
    lapseAt: timestamp("lapse_at"),
    /** Whether its coupon's `lapsed_count` has it. */
    lapsed: boolean("lapsed").notNull().default(false),
    /** Since when it is expired, deleted or released, when it was never used before: it may be purged some time later. */
    goneAt: timestamp("gone_at"),
    /** The caller's own metadata; null: none. */
    labels: jsonb("labels").$type<Labels>(),
  },
  (t) => [
    index("user_coupons_by_code").on(t.codeId, t.id).where(sql`${t.codeId} IS NOT NULL`),
    index("user_coupons_to_lapse").on(t.lapseAt).where(sql`${t.lapseAt} IS NOT NULL`),
    index("user_coupons_gone").on(t.goneAt, t.id).where(sql`${t.goneAt} IS NOT NULL`),
    check("user_coupons_never_over_max_uses", sql`${t.placeCount} <= ${t.maxUses}`),
    check("user_coupons_uses_have_places", sql`${t.useCount} >= 0 AND ${t.useCount} <= ${t.placeCount}`),
    index("user_coupons_to_release").on(t.claimUntil).where(sql`${t.claimUntil} IS NOT NULL`),
    // Each slot once; rows without one do not clash. What a user holds is listed by an index of large-indexes.ts.
    uniqueIndex("user_coupons_one_per_slot").on(t.userId, t.couponId, t.slot),
    uniqueIndex("user_coupons_one_per_request").on(t.requestId).where(sql`${t.requestId} IS NOT NULL`),
    // Grows at its end only, for ids are in the order of time. Its condition holds for every row: only a query that names
    // it can use this index. Else Postgres, while it has no statistics, takes it to find what one user holds of a coupon,
    // and reads what all users hold: in the first minute of a new service a batch of 80 took 150 ms instead of 3.
    index("user_coupons_by_coupon").on(t.couponId, t.id).where(sql`${t.maxUses} > 0`),
  ],
);

/**
 * The codes of code books. A code's row changes only while its coupon is locked; rows are added before the coupon is
 * locked, in the order of their keys.
 */
export const codes = pgTable(
  "codes",
  {
    id: count("id").primaryKey().generatedAlwaysAsIdentity(),
    couponId: uuid("coupon_id").notNull(),
    /** As it was uploaded or generated. */
    code: text("code").notNull(),
    /** What it is found by, see codeKey() in the domain. */
    codeKey: bytewiseText("code_key").notNull(),
    /** Its own discount, as the domain has it; null: the coupon's holds. So for the next two. */
    discount: jsonb("discount"),
    expiresAt: timestamp("expires_at"),
    maxUses: smallint("max_uses"),
    maxHolders: integer("max_holders").notNull().default(1),
    /** Seats that are taken: each holder has one. */
    holderCount: integer("holder_count").notNull().default(0),
    /** Free codes are issued in this order: random; in a type pool first by expiry, see pickKey() in the domain. */
    pickKey: count("pick_key").notNull(),
    createdAt: timestamp("created_at").notNull(),
    /** When it was seen to have expired: its free seats are not in its coupon's quantity any more. */
    retiredAt: timestamp("retired_at"),
    /** What it came by, of `code_sources`; null: a release that kept none. */
    sourceId: uuid("source_id"),
  },
  (t) => [
    check("codes_never_over_max_holders", sql`${t.holderCount} BETWEEN 0 AND ${t.maxHolders}`),
    uniqueIndex("codes_one_per_key").on(t.codeKey),
    index("codes_free")
      .on(t.couponId, t.pickKey)
      .where(sql`${t.holderCount} < ${t.maxHolders} AND ${t.retiredAt} IS NULL`),
    index("codes_by_coupon").on(t.couponId, t.id),
    index("codes_to_purge").on(t.retiredAt, t.id).where(sql`${t.retiredAt} IS NOT NULL AND ${t.holderCount} = 0`),
    index("codes_to_retire").on(t.expiresAt).where(sql`${t.expiresAt} IS NOT NULL AND ${t.retiredAt} IS NULL`),
  ],
);

/** Calls of GenerateCodes. Whoever generates codes for a job holds its row's lock until they are committed. */
export const codeJobs = pgTable(
  "code_jobs",
  {
    id: uuid("id").primaryKey(),
    couponId: uuid("coupon_id").notNull(),
    pattern: text("pattern").notNull(),
    /** What each code has of its own: CodeTerms of the domain. */
    terms: jsonb("terms").notNull(),
    count: integer("count").notNull(),
    madeCount: integer("made_count").notNull().default(0),
    createdAt: timestamp("created_at").notNull(),
    /** null: it is running. */
    endedAt: timestamp("ended_at"),
    /** Why it ended before all were made. */
    failure: text("failure"),
  },
  (t) => [
    check("code_jobs_never_over_count", sql`${t.madeCount} BETWEEN 0 AND ${t.count}`),
    index("code_jobs_running").on(t.id).where(sql`${t.endedAt} IS NULL`),
  ],
);

/**
 * What codes came by: an upload or a job, with the first and the last of its codes. Those of others may lie between them, so a code names its
 * source, too. Found this way its codes need no index of their own.
 */
export const codeSources = pgTable("code_sources", {
  /** Of an upload, which has no other row, or of a job. */
  id: uuid("id").primaryKey(),
  couponId: uuid("coupon_id").notNull(),
  firstCodeId: count("first_code_id").notNull(),
  lastCodeId: count("last_code_id").notNull(),
});

/** How many user coupons of a quota group a user was issued on a day. */
export const quotaDays = pgTable(
  "quota_days",
  {
    quotaGroup: text("quota_group").notNull(),
    userId: text("user_id").notNull(),
    day: date("day").notNull(),
    issuedCount: integer("issued_count").notNull(),
  },
  (t) => [
    primaryKey({ columns: [t.quotaGroup, t.userId, t.day] }),
    // For the purge alone, see user_coupons_by_coupon.
    index("quota_days_by_day").on(t.day).where(sql`${t.issuedCount} >= 0`),
    check("quota_days_count", sql`${t.issuedCount} >= 0`),
  ],
);

/** Every use of a user coupon. Cancelled ones stay on record. */
export const usages = pgTable(
  "usages",
  {
    id: uuid("id").primaryKey(),
    userCouponId: uuid("user_coupon_id").notNull(),
    couponId: uuid("coupon_id").notNull(),
    userId: text("user_id").notNull(),
    productId: text("product_id").notNull(),
    orderId: text("order_id").notNull(),
    /** Of both amounts. */
    currencyCode: char("currency_code", { length: 3 }).notNull(),
    orderAmount: count("order_amount").notNull(),
    discountAmount: count("discount_amount").notNull(),
    /** What other calls with the same order had taken off before. */
    discountedBefore: count("discounted_before").notNull().default(0),
    /** null: the caller gave none. */
    requestId: text("request_id"),
    /** Its index in the request, from 0: all usages of one request have the same id. */
    item: smallint("item").notNull(),
    usedAt: timestamp("used_at").notNull(),
    cancelledAt: timestamp("cancelled_at"),
    /** The code that the user coupon carries; null: none. */
    code: text("code"),
    /** What the coupon had then. Its name is null in rows of releases that stored neither these three nor labels. */
    couponName: text("coupon_name"),
    couponType: text("coupon_type"),
    /** The caller's own metadata; null: none. */
    labels: jsonb("labels").$type<Labels>(),
  },
  (t) => [
    check("usages_discount", sql`${t.discountAmount} BETWEEN 0 AND ${t.orderAmount}`),
    check("usages_order_discount", sql`${t.discountedBefore} BETWEEN 0 AND ${t.orderAmount} - ${t.discountAmount}`),
    uniqueIndex("usages_one_per_request").on(t.requestId, t.item).where(sql`${t.requestId} IS NOT NULL`),
    index("usages_by_user").on(t.userId, t.id),
    index("usages_by_coupon").on(t.couponId, t.id),
    index("usages_by_product").on(t.productId, t.id),
    index("usages_by_order").on(t.orderId, t.id),
    // One by user coupon and one by user and order are in large-indexes.ts.
    index("usages_cancelled").on(t.couponId).where(sql`${t.cancelledAt} IS NOT NULL`),
  ],
);

/**
 * What happened, appended in the transaction in which it happened. `seq` is given out while the coupon's row is locked,
 * so the events of one coupon are in order by it. Transactions become visible in another order than they drew their
 * numbers: a reader must not go past what an open one may still add, see event_head.sql. `xid` tells whether at a number
 * there is still the same event.
 *
 * Its partitions are months by `happened_at`, each with the primary key of its own: see partition-events.ts.
 */
export const events = pgTable(
  "events",
  {
    seq: bigint("seq", { mode: "number" }).generatedAlwaysAsIdentity(),
    xid: xid8("xid").notNull().default(sql`pg_current_xact_id()`),
    kind: text("kind").notNull(),
    happenedAt: timestamp("happened_at").notNull(),
    couponId: uuid("coupon_id").notNull(),
    userCouponId: uuid("user_coupon_id"),
    userId: text("user_id"),
    usageId: uuid("usage_id"),
    /** For events of a coupon: its row after the change. For locks: version and end. */
    detail: jsonb("detail"),
  },
  (t) => [primaryKey({ columns: [t.seq] })],
);

/** What GetStats answers when there is too much to read for it at once: of `all`, and of each type that has a coupon. */
export const statsSnapshots = pgTable("stats_snapshots", {
  scope: text("scope").primaryKey(),
  /** When the counts were read. */
  readAt: timestamp("read_at").notNull(),
  /** When somebody last asked for any of them, to the minute; kept at `all`, as the next one is. */
  askedAt: timestamp("asked_at").notNull(),
  /** How long the counting took. */
  tookMs: integer("took_ms").notNull().default(0),
  couponCount: count("coupon_count").notNull(),
  codeCount: count("code_count").notNull(),
  issuedCount: count("issued_count").notNull(),
  deletedCount: count("deleted_count").notNull(),
  releasedCount: count("released_count").notNull(),
  usedCount: count("used_count").notNull(),
  cancelledCount: count("cancelled_count").notNull(),
  revokedCount: count("revoked_count").notNull(),
  expiredCount: count("expired_count").notNull(),
});

/** Requests that changed something, so that a repeated one gets the first one's answer. */
export const requests = pgTable(
  "requests",
  {
    method: text("method").notNull(),
    requestId: text("request_id").notNull(),
    /** SHA-256 of the input. */
    inputHash: bytea("input_hash").notNull(),
    /** What the call had changed, as it left it. */
    answer: jsonb("answer").notNull(),
    createdAt: timestamp("created_at").notNull(),
  },
  (t) => [primaryKey({ columns: [t.method, t.requestId] }), index("requests_by_age").on(t.createdAt)],
);

/** Who may call by a key. */
export const callers = pgTable("callers", {
  name: text("name").primaryKey(),
  createdAt: timestamp("created_at").notNull(),
  /** How often it may call; null: as often as the service has it for all. */
  limits: jsonb("limits"),
});

/** Keys of callers: never the keys themselves, but what a call that brings one is compared with. */
export const callerKeys = pgTable(
  "caller_keys",
  {
    /** The public part of the key. */
    id: text("id").primaryKey(),
    /** Lists are in this order. */
    seq: count("seq").generatedAlwaysAsIdentity().unique(),
    caller: text("caller")
      .notNull()
      .references(() => callers.name),
    /** With blanks between. */
    scopes: text("scopes").notNull(),
    /** SHA-256 of the key. */
    hash: bytea("hash").notNull(),
    createdAt: timestamp("created_at").notNull(),
    /** null: it does not expire. */
    expiresAt: timestamp("expires_at"),
    revokedAt: timestamp("revoked_at"),
    /** The key in whose place it came. */
    replacedId: text("replaced_id"),
    /** Of the transaction that last changed it: by this replicas find what they have not seen. */
    changedXid: xid8("changed_xid").notNull().default(sql`pg_current_xact_id()`),
  },
  (t) => [
    index("caller_keys_of_caller").on(t.caller, t.seq),
    index("caller_keys_changed").on(t.changedXid),
    check("caller_keys_hash", sql`length(${t.hash}) = 32`),
  ],
);

/**
 * What administrators did and wanted to do, never changed: triggers refuse that. Its partitions are months by `id`, which is a
 * UUID of version 7 and so has the time in it: see months/keep_months.sql.
 */
export const auditRecords = pgTable(
  "audit_records",
  {
    id: uuid("id").notNull(),
    happenedAt: timestamp("happened_at").notNull(),
    /** Empty: nobody was asked who they are. */
    principal: bytewiseText("principal").notNull(),
    method: bytewiseText("method").notNull(),
    /** The call's x-request-id, or the one that was made up for it. */
    requestId: text("request_id").notNull(),
    /** The request id of its message, as it came; empty: none. */
    callerRequestId: text("caller_request_id").notNull(),
    /** OK, or why it was refused. */
    outcome: text("outcome").notNull(),
    /** null: nothing that is there, or many. */
    targetId: bytewiseText("target_id"),
    /** A coupon is its row, under `coupon`. */
    before: jsonb("before"),
    after: jsonb("after"),
  },
  (t) => [
    primaryKey({ columns: [t.id] }),
    index("audit_records_of_principal").on(t.principal, t.id),
    index("audit_records_of_method").on(t.method, t.id),
    index("audit_records_of_target").on(t.targetId, t.id),
  ],
);

/** Words are compared in small letters, of any script and whatever the database's locale is. */
const smallLetters = (column: string) => `lower((${column}) COLLATE "und-x-icu")`;
/** The characters of which the parser would make e-mail addresses, host names, paths and numbers with signs only end words. */
const wordsOf = (text: string) => `strip(to_tsvector('simple', translate(${text}, '-_./~@<>&+', '          ')))`;
/** What SearchCoupons filters by, as words that nobody can type: so an index finds "coffee in this category" as one thing. */
const filterWords = `array_to_tsvector(array_remove(ARRAY[
  '=c ' || ${smallLetters("category")}, '=t ' || type, '=k ' || discount_kind], NULL))`;

/**
 * What SearchCoupons looks for, and in: one row for each coupon that is neither deleted nor a type pool. A trigger keeps it, so
 * that the coupon's own row, which every batch of issues writes anew, stays small and out of these indexes.
 */
export const couponSearch = pgTable(
  "coupon_search",
  {
    couponId: uuid("coupon_id").primaryKey(),
    name: text("name").notNull(),
    category: text("category").notNull(),
    description: text("description").notNull(),
    type: text("type"),
    /** PERCENTAGE or FIXED_AMOUNT. */
    discountKind: text("discount_kind").notNull(),
    expiresAt: timestamp("expires_at").notNull(),
    nameWords: tsvector("name_words")
      .notNull()
      .generatedAlwaysAs(sql.raw(`${wordsOf(smallLetters("name"))} || ${filterWords}`)),
    allWords: tsvector("all_words")
      .notNull()
      .generatedAlwaysAs(
        sql.raw(`${wordsOf(smallLetters("name || ' ' || category || ' ' || description"))} || ${filterWords}`),
      ),
  },
  (t) => [
    // Without a list of pending entries: every search would read all of it.
    index("coupon_search_by_name").using("gin", t.nameWords).with({ fastupdate: false }),
    index("coupon_search_by_all").using("gin", t.allWords).with({ fastupdate: false }),
  ],
);

/** Every word that a coupon ever had, for what a prefix stands for and what a mistyped word is like. */
export const searchWords = pgTable("search_words", { word: bytewiseText("word").primaryKey() });

/** How far the events were published, and which replica does it now: a row for each topic. */
export const relayState = pgTable("relay_state", {
  name: bytewiseText("name").primaryKey(),
  /** The last event that was published; null: it is not decided yet where to begin. */
  placeSeq: count("place_seq"),
  /** Of its transaction; empty: no event stands there. */
  placeXid: text("place_xid"),
  /** Grows with each holder. Who names an older one has lost the lease. */
  fence: count("fence").notNull().default(0),
  /** For people. */
  holder: text("holder"),
  /** null: nobody holds it. */
  heldUntil: timestamp("held_until"),
});
