import { randomUUID } from "node:crypto";
import { afterAll, beforeAll, expect, test } from "vitest";
import { PostgresIssueStore } from "../../src/storage/postgres/issuing/issue-store.js";
import { PostgresUserCouponStore } from "../../src/storage/postgres/user-coupons/user-coupon-store.js";
import { PostgresUsageStore } from "../../src/storage/postgres/using/usage-store.js";
import { type ClockedDatabase, insertCoupon, openClockedDatabase, openCoupon } from "./clocked-database.js";
import { insertCodes } from "./codes-world.js";
import { type Held, lockRequestOf, useRequestOf } from "./usage-world.js";

/**
 * A new service plans its statements while its tables are empty, and keeps these plans until Postgres has analyzed the tables, a minute
 * or more later: in the middle of the first sale. So they must be right for large tables, too. What is read is counted in entries of
 * indexes and rows of tables.
 */

const noon = new Date("2030-06-01T12:00:00.000Z");
const farMs = Date.now() + 3_600_000;
const longAgo = new Date(noon.getTime() - 3_600_000);
const many = 20_000;
const batch = 20;
/** For each item of a batch: what it asks for by keys, some of it several times. */
const fewReads = 40;

let clocked: ClockedDatabase;
let issues: PostgresIssueStore;
let userCoupons: PostgresUserCouponStore;
let usages: PostgresUsageStore;
let couponId: string;
let bookId: string;
const limitedId = randomUUID();

beforeAll(async () => {
  // One connection for each purpose, so that the plans of the warm-up are those that are asked later.
  clocked = await openClockedDatabase(noon, 4);
  const { sql, database } = clocked;
  const tables = await sql<{ name: string }[]>`
    SELECT c.oid::regclass::text AS name FROM pg_class c WHERE c.relkind = 'r' AND c.relnamespace = 'public'::regnamespace`;
  for (const { name } of tables) await sql.unsafe(`ALTER TABLE ${name} SET (autovacuum_enabled = false)`);
  issues = new PostgresIssueStore(database);
  userCoupons = new PostgresUserCouponStore(database);
  usages = new PostgresUsageStore(database);
  const spans = { claimWindowMs: 60_000, validityAfterIssueMs: 120_000 };
  couponId = await insertCoupon(sql, openCoupon(noon, { quantity: null, maxUses: 2, ...spans }));
  bookId = await insertCoupon(sql, openCoupon(noon, { quantity: 0 }));
  await insertCoupon(sql, openCoupon(noon, { id: limitedId, quantity: null }));
  await sql`UPDATE coupons SET quota_group = 'rides', quota_per_day = 5 WHERE id = ${limitedId}`;
  await insertCodes(
    sql,
    bookId,
    Array.from({ length: 8 * batch }, () => ({})),
  );
  // A plan that is kept is made after some calls with plans of their own.
  for (let round = 0; round < 7; round += 1) for (const { work } of steps) await work(1);
  await fill();
}, 120_000);
afterAll(() => clocked?.close());

/** As after some minutes of a sale, with nothing analyzed, and much that is due. */
async function fill(): Promise<void> {
  const { sql } = clocked;
  const ago = new Date(noon.getTime() - 1_000);
  for (const [one, claimUntil, lapseAt] of [
    [couponId, ago, null],
    [bookId, null, ago],
  ] as const)
    await sql`
      INSERT INTO user_coupons (id, coupon_id, user_id, slot, request_id, issued_at, claim_until, valid_until, lapse_at)
      SELECT gen_random_uuid(), ${one}, 'many ' || n, 1, gen_random_uuid()::text, ${noon}, ${claimUntil}, ${lapseAt}, ${lapseAt}
      FROM generate_series(1, ${many}) n`;
  await sql`
    INSERT INTO usages (id, user_coupon_id, coupon_id, user_id, product_id, order_id, currency_code, order_amount, discount_amount,
      used_at, request_id, item)
    SELECT gen_random_uuid(), id, coupon_id, user_id, 'product', 'many ' || id, 'USD', 1000, 10, ${noon}, 'many ' || id, 0
    FROM user_coupons WHERE user_id LIKE 'many %'`;
  await sql`
    INSERT INTO quota_days (quota_group, user_id, day, issued_count)
    SELECT 'rides', 'many ' || n, '2030-06-01', 1 FROM generate_series(1, ${many}) n`;
  await sql`
    INSERT INTO requests (method, request_id, input_hash, answer, created_at)
    SELECT 'CancelUsage', 'many ' || n, '', '{}', ${noon} FROM generate_series(1, ${many}) n`;
  await sql`
    INSERT INTO codes (coupon_id, code, code_key, max_holders, holder_count, pick_key, created_at)
    SELECT ${bookId}, 'many ' || n, 'many ' || n, 1, 1, n, ${noon} FROM generate_series(1, ${many}) n`;
}

const user = () => `user ${randomUUID()}`;
const times = <T>(count: number, one: (at: number) => T): T[] => Array.from({ length: count }, (_, at) => one(at));

async function issue(count: number, coupon: string, again: boolean, code?: number): Promise<Held[]> {
  const requests = times(count, () => ({
    couponId: coupon,
    userId: user(),
    userCouponId: randomUUID(),
    requestId: randomUUID(),
    ...(code && { codeId: code }),
  }));
  const results = await issues.issueBatch(requests, again);
  expect(results).toEqual(requests.map(() => expect.objectContaining({ outcome: "ISSUED" })));
  return requests;
}

/** Each does something with `count` user coupons, of its own ones. */
const steps: readonly { name: string; work(count: number): Promise<unknown> }[] = [
  { name: "issue", work: (count) => issue(count, couponId, false) },
  { name: "issue again", work: (count) => issue(count, couponId, true) },
  { name: "issue under a quota", work: (count) => issue(count, limitedId, false) },
  {
    name: "issue codes and find them",
    work: async (count) => {
      const helds = await issue(count, bookId, false);
      for (const { userId, userCouponId } of helds) {
        const held = await userCoupons.get(userId, userCouponId, farMs);
        const choice = { userCouponId: "", code: held!.value.userCoupon.code as string, lockVersion: 0 };
        expect(await usages.findByCodes(userId, [choice], "", farMs)).toEqual([[userCouponId]]);
      }
    },
  },
  {
    name: "lock and unlock",
    work: async (count) => {
      const helds = await issue(count, couponId, false);
      const locks = await usages.lockBatch(
        helds.map((held) => lockRequestOf(held)),
        { together: false },
      );
      for (const [at, held] of helds.entries()) {
        const lockVersion = (locks[at] as { lock: { version: number } }).lock.version;
        const choice = { userCouponId: held.userCouponId, code: "", lockVersion };
        expect(await usages.unlock(held.userId, [choice], farMs)).toEqual([held.userCouponId]);
      }
    },
  },
  {
    name: "read, use, list and cancel",
    work: async (count) => {
      const helds = await issue(count, couponId, false);
      const read = await usages.readChosen(
        helds.map(({ userId, userCouponId }) => ({ userId, userCouponId, orderId: `order ${userId}` })),
      );
      const requests = helds.map((held) =>
        useRequestOf(held, { orderId: `order ${held.userId}`, requestId: randomUUID() }),
      );
      expect(read.length).toBe(count);
      const used = await usages.useBatch(requests, { again: false, together: false });
      expect(used.map(({ outcome }) => outcome)).toEqual(requests.map(() => "USED"));
      for (const { userId, usageId, userCouponId } of requests) {
        await usages.get(userId, usageId, farMs);
        await usages.ofUserCoupons(userId, [userCouponId], 10, farMs);
        await userCoupons.list(userId, { size: 10, before: null }, null, farMs);
      }
      const cancelled = await usages.cancelBatch(
        requests.map(({ userId, usageId }) => ({
          userId,
          usageId,
          request: { requestId: randomUUID(), inputHash: new Uint8Array(32) },
        })),
        false,
      );
      expect(cancelled.map(({ outcome }) => outcome)).toEqual(requests.map(() => "CANCELLED"));
    },
  },
  {
    name: "delete",
    work: async (count) => {
      for (const { userId, userCouponId } of await issue(count, couponId, false)) {
        const deletion = { userId, userCouponId, restock: true, deleteUsed: false, request: null };
        await userCoupons.delete(deletion, async () => {}, farMs);
      }
    },
  },
  {
    name: "release and expire",
    work: async (count) => {
      const helds = await issue(2 * count, couponId, false);
      const { sql } = clocked;
      const [released, expired] = [helds.slice(0, count), helds.slice(count)].map((some) =>
        some.map((one) => one.userCouponId),
      );
      await sql.begin(async (tx) => {
        await tx`SET LOCAL enable_seqscan = off`;
        await tx`UPDATE user_coupons SET claim_until = ${longAgo} WHERE id = ANY (${released!}::uuid[])`;
        await tx`
          UPDATE user_coupons SET claim_until = NULL, valid_until = ${longAgo}, lapse_at = ${longAgo} WHERE id = ANY (${expired!}::uuid[])`;
      });
      expect((await userCoupons.release(count)).length).toBe(count);
      expect(await userCoupons.expire(count)).toBe(count);
    },
  },
];

/** Entries of indexes and rows of tables that were read so far; by name. */
async function reads(): Promise<Map<string, number>> {
  const { database, sql } = clocked;
  for (const pool of database.pools) await pool.run(farMs, ({ sql: own }) => own`SELECT pg_stat_force_next_flush()`);
  const rows = await sql<{ name: string; read: number }[]>`
    SELECT indexrelname AS name, idx_tup_read::float8 AS read FROM pg_stat_user_indexes
    UNION ALL SELECT relname, seq_tup_read::float8 FROM pg_stat_user_tables WHERE relname NOT IN ('test_clock')`;
  return new Map(rows.map(({ name, read }) => [name, read]));
}

test.for(steps)("$name reads what it needs, by plans from before there was anything", async ({ work }) => {
  const before = await reads();
  await work(batch);
  const after = await reads();
  const most = [...after].map(([name, read]) => ({ name, read: read - (before.get(name) ?? 0) }));
  expect(most.filter(({ read }) => read > batch * fewReads)).toEqual([]);
});
