import type { Sql } from "postgres";
import { isLockTrouble, type MigrationLog } from "./patient-ddl.js";

/**
 * Indexes that came when their tables may have been large. A migration is a transaction, in which an index is built under a
 * lock that stops all writes; these are built beside the writes of the replicas that serve meanwhile. A page that needs one is
 * right without it, and slow.
 */
const indexes = {
  // What a user holds, newest first. In the order of its bytes: cheaper to keep, and no plan can use another index instead.
  user_coupons_of_user: `user_coupons (user_id COLLATE "C", id) WHERE deleted_at IS NULL`,
  // The usages of one user coupon.
  usages_of_user_coupon: "usages (user_coupon_id, id)",
  // What stands of one user's order. Until it is there, usages_by_order does for all orders but those whose names many users have.
  usages_of_order: "usages (order_id, user_id) WHERE cancelled_at IS NULL",
  // What may be issued by type, in the order in which it ends. What is sold out is among it: were a counter in the condition, each issue
  // would write to every index of the table.
  coupons_open_by_type:
    "coupons (type, expires_at) WHERE type IS NOT NULL AND deleted_at IS NULL AND paused_at IS NULL AND exhausted_at IS NULL",
  // One coupon's code jobs.
  code_jobs_of_coupon: "code_jobs (coupon_id, id)",
  // What a search without words is filtered by, newest first.
  coupon_search_of_category: `coupon_search ((lower(category COLLATE "und-x-icu") COLLATE "C"), coupon_id)`,
  coupon_search_of_type: `coupon_search (type COLLATE "C", coupon_id)`,
  coupon_search_of_kind: `coupon_search (discount_kind COLLATE "C", coupon_id)`,
};

/** Any number that is ours. */
const advisoryLock = 7_106_118_003;
/** Building one waits for transactions that are older than it, and holds up nobody meanwhile. */
const lockWaitMs = 60_000;

/** Builds those that are missing, unless another replica is at it. Answers which it could not build, for others were in the way. */
export async function buildLargeIndexes(client: Sql, log: MigrationLog): Promise<readonly string[]> {
  // Never waited for: whoever waits for a lock has a snapshot, which the one who builds would wait for.
  const [taken] = await client<{ yes: boolean }[]>`SELECT pg_try_advisory_lock(${advisoryLock}::bigint) AS yes`;
  if (!taken?.yes) return [];
  await client.unsafe(`SET lock_timeout = ${lockWaitMs}`);
  const missing: string[] = [];
  for (const [name, definition] of Object.entries(indexes)) {
    try {
      await buildIndex(client, name, definition);
    } catch (error) {
      if (!isLockTrouble(error)) throw error;
      log.warn({ err: error, index: name }, "an index could not be built; the next start tries again");
      missing.push(name);
    }
  }
  await client`SELECT pg_advisory_unlock(${advisoryLock}::bigint)`;
  return missing;
}

async function buildIndex(client: Sql, name: string, definition: string): Promise<void> {
  const [found] = await client<{ valid: boolean }[]>`
    SELECT indisvalid AS valid FROM pg_index WHERE indexrelid = to_regclass(${name})`;
  if (found?.valid) return;
  // One whose building was cut off.
  if (found) await client.unsafe(`DROP INDEX CONCURRENTLY ${name}`);
  await client.unsafe(`CREATE INDEX CONCURRENTLY ${name} ON ${definition}`);
}
