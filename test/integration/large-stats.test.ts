import { randomUUID } from "node:crypto";
import { afterAll, beforeAll, expect, test } from "vitest";
import type { Stats } from "../../src/storage/ports/stats.js";
import { PostgresStatsStore } from "../../src/storage/postgres/stats/stats-store.js";
import { type ClockedDatabase, openClockedDatabase } from "./clocked-database.js";
import { untilWaiting } from "./waiting.js";

/** GetStats of all reads no more than is quickly read, however much there is, and says of which moment it is. */

const noon = new Date("2030-06-01T12:00:00.000Z");
const farMs = Date.now() + 3_600_000;
const all = { couponId: null, type: null };
const [couponCount, perCoupon] = [5_000, 10];
/** Of one coupon; each in a block of its own when it is found by the coupon. */
const rowsOfOne = 3_000;
/** Of 55,000 rows; a look by an index that is bounded reads a row in a block or less. */
const fewBlocks = 9_000;

let clocked: ClockedDatabase;
let stats: PostgresStatsStore;

beforeAll(async () => {
  clocked = await openClockedDatabase(noon);
  stats = new PostgresStatsStore(clocked.database);
});
afterAll(() => clocked?.close());

const insertCoupons = (count: number) => clocked.sql`
  INSERT INTO coupons (id, name, description, category, fixed_amount, currency_code, starts_at, expires_at, max_per_user,
    stackable, created_at, updated_at, issued_count, issued_total, type)
  SELECT gen_random_uuid(), 'n', '', '', 1, 'USD', ${noon}, '2099-01-01', 1, false, ${noon}, ${noon}, ${perCoupon}, ${perCoupon},
    CASE WHEN n % 2 = 0 THEN 'FREE' END
  FROM generate_series(1, ${count}::int) n`;

async function blocksOf(couponId: string | null = null): Promise<number> {
  const [row] = await clocked.sql`
    EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) SELECT * FROM read_stats(${couponId}::uuid, NULL, 1000)`;
  const { Plan } = row!["QUERY PLAN"][0];
  return Plan["Shared Hit Blocks"] + Plan["Shared Read Blocks"];
}

const readAll = async () => (await stats.read(all, farMs)) as { value: Stats; now: Date };

test("while there is little, counts are of this moment, and nothing is kept", async () => {
  await insertCoupons(10);
  await stats.keep();
  expect(await readAll()).toMatchObject({ value: { couponCount: 10, issuedCount: 100 }, now: noon });
  await insertCoupons(1);
  expect(await readAll()).toMatchObject({ value: { couponCount: 11 }, now: noon });
  expect((await clocked.sql`SELECT FROM stats_snapshots`).length).toBe(0);
  await clocked.sql`TRUNCATE coupons`;
});

test("when there is very much, and all of it fell due at once, what was counted last is read, with its moment", async () => {
  const { sql } = clocked;
  await insertCoupons(couponCount);
  await sql`
    INSERT INTO user_coupons (id, coupon_id, user_id, slot, issued_at, valid_until, lapse_at)
    SELECT gen_random_uuid(), c.id, n::text, 1, ${noon}, ${noon}, ${noon} FROM coupons c CROSS JOIN generate_series(1, ${perCoupon}::int) n`;
  const expected = { couponCount, issuedCount: couponCount * perCoupon, expiredCount: couponCount * perCoupon };
  // Nobody has counted yet: whoever asks first does.
  expect(await readAll()).toMatchObject({ value: expected, now: noon });
  for (const prepare of [async () => {}, () => sql`ANALYZE`]) {
    await prepare();
    expect(await blocksOf()).toBeLessThan(fewBlocks);
  }
  const free = { couponCount: couponCount / 2, expiredCount: (couponCount * perCoupon) / 2 };
  expect(await stats.read({ couponId: null, type: "FREE" }, farMs)).toMatchObject({ value: free, now: noon });
  expect((await stats.read({ couponId: null, type: "MEGADEAL" }, farMs))?.value.couponCount).toBe(0);

  // Of one coupon it is always of this moment, and what is due of others is not gone through.
  const [one] = await sql`SELECT coupon_id AS id FROM user_coupons LIMIT 1`;
  const ofOne = async () => (await stats.read({ couponId: one?.id, type: null }, farMs))?.value;
  expect(await ofOne()).toMatchObject({ issuedCount: perCoupon, expiredCount: perCoupon });
  expect(await blocksOf(one?.id)).toBeLessThan(fewBlocks / 2);
  await sql`UPDATE user_coupons SET claim_until = ${new Date(noon.getTime() - 1)} WHERE coupon_id = ${one?.id} AND user_id IN ('1', '2')`;
  expect(await ofOne()).toMatchObject({ issuedCount: perCoupon, expiredCount: perCoupon - 2 });

  // What it has itself is gone through once.
  await sql`
    INSERT INTO user_coupons (id, coupon_id, user_id, slot, issued_at, valid_until, lapse_at)
    SELECT gen_random_uuid(), ${one?.id}, 'more ' || n, 1, ${noon}, ${noon}, ${noon} FROM generate_series(1, ${rowsOfOne}::int) n`;
  expect(await ofOne()).toMatchObject({ expiredCount: perCoupon - 2 + rowsOfOne });
  expect(await blocksOf(one?.id)).toBeLessThan(2 * rowsOfOne);
  await sql`DELETE FROM user_coupons WHERE user_id LIKE 'more %'`;

  // Later it is counted again, but no more often than it is worth.
  await insertCoupons(1);
  await stats.keep();
  expect(await readAll()).toMatchObject({ value: { couponCount }, now: noon });
  const later = new Date(noon.getTime() + 61_000);
  await clocked.setClock(later);
  expect(await readAll()).toMatchObject({ value: { couponCount }, now: noon });
  await stats.keep();
  expect(await readAll()).toMatchObject({ value: { couponCount: couponCount + 1 }, now: later });
});

test("of a coupon that has more than is due of all, what is due is gone through, and not what it has", async () => {
  const { sql } = clocked;
  const [one] = await sql`SELECT coupon_id AS id FROM user_coupons GROUP BY 1 HAVING count(claim_until) = 0 LIMIT 1`;
  const due = 1_500;
  await sql`
    UPDATE user_coupons SET lapse_at = NULL
    WHERE id NOT IN (SELECT id FROM user_coupons ORDER BY coupon_id = ${one?.id} DESC LIMIT ${due})`;
  await sql`
    INSERT INTO user_coupons (id, coupon_id, user_id, slot, issued_at)
    SELECT gen_random_uuid(), ${one?.id}, 'large ' || n, 1, ${noon} FROM generate_series(1, ${4 * due}::int) n`;
  await sql`UPDATE coupons SET issued_total = issued_total + ${4 * due} WHERE id = ${one?.id}`;
  await sql`VACUUM user_coupons`;
  expect((await stats.read({ couponId: one?.id, type: null }, farMs))?.value.expiredCount).toBe(perCoupon);
  const rowsRead = await sql.begin(async (tx) => {
    await tx`SELECT FROM read_stats(${one?.id}, NULL, 1000)`;
    const [table] =
      await tx`SELECT idx_tup_fetch::int AS rows FROM pg_stat_xact_user_tables WHERE relname = 'user_coupons'`;
    return table?.rows;
  });
  expect(rowsRead).toBeGreaterThan(0);
  expect(rowsRead).toBeLessThan(4 * due);
});

test("nobody counts beside another who does", async () => {
  const { sql } = clocked;
  await clocked.setClock(new Date(noon.getTime() + 3_600_000));
  await sql.begin(async (tx) => {
    await tx`SELECT count_stats(false)`;
    await stats.keep();
    // What the other one has not committed is not seen, and nobody waits for it.
    expect((await readAll()).now).not.toEqual(await clocked.now());
  });
  expect((await readAll()).now).toEqual(await clocked.now());
});

test("however many ask, and of however many coupons, jobs find a connection, for one answer is read at a time", async () => {
  const { sql, database } = clocked;
  const answers: Promise<unknown>[] = [];
  await sql.begin(async (tx) => {
    await tx`LOCK TABLE coupons IN ACCESS EXCLUSIVE MODE`;
    for (let n = 0; n < 40; n++) answers.push(stats.read({ couponId: randomUUID(), type: null }, farMs));
    await untilWaiting(sql, 1);
    await database.background.run(farMs, ({ sql: job }) => job`SELECT`);
  });
  await Promise.allSettled(answers);
});

test("who asks the same at the same moment shares the answer", async () => {
  const same = await Promise.all(Array.from({ length: 10 }, () => stats.read(all, farMs)));
  expect(new Set(same).size).toBe(1);
});
