import { PostgresAuditStore } from "../storage/postgres/audit/audit-store.js";
import { PostgresCodeStore } from "../storage/postgres/codes/code-store.js";
import { PostgresCouponStore } from "../storage/postgres/coupons/coupon-store.js";
import type { Database } from "../storage/postgres/database.js";
import { PostgresEventStore } from "../storage/postgres/events/event-store.js";
import { PostgresRelayStore } from "../storage/postgres/events/relay-store.js";
import { PostgresIssueStore } from "../storage/postgres/issuing/issue-store.js";
import { PostgresTargetStore } from "../storage/postgres/issuing/target-store.js";
import { PostgresCallerStore } from "../storage/postgres/keys/caller-store.js";
import { PostgresKeyStore } from "../storage/postgres/keys/key-store.js";
import { PostgresPurgeStore } from "../storage/postgres/purge/purge-store.js";
import { PostgresSearchStore } from "../storage/postgres/search/search-store.js";
import { PostgresStatsStore } from "../storage/postgres/stats/stats-store.js";
import { PostgresUserCouponStore } from "../storage/postgres/user-coupons/user-coupon-store.js";
import { PostgresUsageStore } from "../storage/postgres/using/usage-store.js";

export type Stores = ReturnType<typeof openStores>;

/** What is stored in Postgres, a store for each feature. */
export function openStores(database: Database, quotaTimeZone: string) {
  return {
    coupons: new PostgresCouponStore(database),
    codes: new PostgresCodeStore(database),
    userCoupons: new PostgresUserCouponStore(database),
    issues: new PostgresIssueStore(database, quotaTimeZone),
    targets: new PostgresTargetStore(database),
    usages: new PostgresUsageStore(database),
    search: new PostgresSearchStore(database),
    stats: new PostgresStatsStore(database),
    events: new PostgresEventStore(database),
    relay: new PostgresRelayStore(database),
    keys: new PostgresKeyStore(database),
    callers: new PostgresCallerStore(database),
    audit: new PostgresAuditStore(database),
    purge: new PostgresPurgeStore(database),
  };
}
