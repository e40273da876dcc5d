import type { Sql } from "postgres";

/**
 * Indexes that came when their tables may have been large. A migration is a transaction, in which an index is built under a
 * lock that stops all writes; these are built beside the writes of the replicas that serve meanwhile. A page that needs one is
 * right without it, and slow.
 */
const indexes = {
  // What a user holds, newest first. In the order of its bytes: cheaper to keep, and no other index can take its place in a plan.
  user_coupons_of_user: `user_coupons (user_id COLLATE "C", id) WHERE deleted_at IS NULL`,
  // The usages of one user coupon.
  usages_of_user_coupon: "usages (user_coupon_id, id)",
};

/** Any number that is ours. */
const advisoryLock = 7_106_118_003;

/** Builds those that are missing, unless another replica is at it. */
export async function buildLargeIndexes(client: Sql): Promise<void> {
  // Never waited for: whoever waits for a lock has a snapshot, which the one who builds would wait for.
  const [taken] = await client<{ yes: boolean }[]>`SELECT pg_try_advisory_lock(${advisoryLock}::bigint) AS yes`;
  if (!taken?.yes) return;
  for (const [name, definition] of Object.entries(indexes)) {
    const [found] = await client<{ valid: boolean }[]>`
      SELECT indisvalid AS valid FROM pg_index WHERE indexrelid = to_regclass(${name})`;
    if (found?.valid) continue;
    // One whose building was cut off.
    if (found) await client.unsafe(`DROP INDEX CONCURRENTLY ${name}`);
    await client.unsafe(`CREATE INDEX CONCURRENTLY ${name} ON ${definition}`);
  }
  await client`SELECT pg_advisory_unlock(${advisoryLock}::bigint)`;
}
