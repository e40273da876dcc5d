import { randomUUID } from "node:crypto";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, onTestFinished, test } from "vitest";
import { GateKeeper } from "../../src/issuing/gate-keeper.js";
import { Expirer } from "../../src/jobs/expirer.js";
import { type PurgeOptions, Purger } from "../../src/jobs/purger.js";
import { MemoryGate } from "../../src/reservation/memory/memory-gate.js";
import { openDatabase } from "../../src/storage/postgres/database.js";
import { PostgresIssueStore } from "../../src/storage/postgres/issuing/issue-store.js";
import { PostgresPurgeStore } from "../../src/storage/postgres/purge/purge-store.js";
import { PostgresUserCouponStore } from "../../src/storage/postgres/user-coupons/user-coupon-store.js";
import { PostgresUsageStore } from "../../src/storage/postgres/using/usage-store.js";
import { miscounted } from "../support/counted-stats.js";
import { unreported } from "../support/unreported.js";
import { until } from "../support/until.js";
import {
  type ClockedDatabase,
  type CouponFacts,
  insertCoupon,
  openClockedDatabase,
  openCoupon,
} from "./clocked-database.js";
import { expireCodes, insertCodes } from "./codes-world.js";
import { explained } from "./explained.js";
import { cancelOne, countEvents, type Held, hold, useRequestOf } from "./usage-world.js";
import { whileWaiting } from "./waiting.js";

const noon = new Date("2030-06-01T12:00:00.000Z");
const [secondMs, hourMs, dayMs] = [1_000, 3_600_000, 86_400_000];
const later = (ms: number) => new Date(noon.getTime() + ms);
const farMs = Date.now() + hourMs;

let clocked: ClockedDatabase;
let issues: PostgresIssueStore;
let usages: PostgresUsageStore;
let userCoupons: PostgresUserCouponStore;

beforeAll(async () => {
  clocked = await openClockedDatabase(noon);
  issues = new PostgresIssueStore(clocked.database);
  usages = new PostgresUsageStore(clocked.database);
  userCoupons = new PostgresUserCouponStore(clocked.database);
});
beforeEach(async () => {
  await clocked.sql`TRUNCATE coupons, user_coupons, codes, usages, events, requests, quota_days`;
  await clocked.setClock(noon);
});
afterEach(async () => expect(await miscounted(clocked.sql)).toEqual([]));
afterAll(() => clocked?.close());

const newCoupon = (changed: Partial<CouponFacts> = {}) => insertCoupon(clocked.sql, openCoupon(noon, changed));
const newBook = async (codes: Parameters<typeof insertCodes>[2], changed: Partial<CouponFacts> = {}) => {
  const couponId = await newCoupon({ quantity: 0, ...changed });
  return { couponId, codeIds: await insertCodes(clocked.sql, couponId, codes) };
};

async function issue(couponId: string, count = 1): Promise<Held[]> {
  const requests = Array.from({ length: count }, () => ({
    couponId,
    userId: `user-${randomUUID()}`,
    userCouponId: randomUUID(),
    requestId: "",
  }));
  for (const { outcome } of await issues.issueBatch(requests)) expect(outcome).toBe("ISSUED");
  return requests;
}

async function use(held: Held): Promise<void> {
  const [row] = await clocked.sql`SELECT revision::int FROM coupons WHERE id = ${held.couponId}`;
  const [said] = await usages.useBatch([useRequestOf(held, { revision: row?.revision })], {
    again: false,
    together: false,
  });
  expect(said?.outcome).toBe("USED");
}

const remove = ({ userId, userCouponId }: Held, restock: boolean) =>
  userCoupons.delete({ userId, userCouponId, restock, deleteUsed: true, request: null }, async () => {}, farMs);

const stockOf = async (couponId: string) =>
  (
    await clocked.sql`SELECT quantity::int, issued_count::int AS "issuedCount", revision::int, lapsed_count::int AS "lapsedCount"
      FROM coupons WHERE id = ${couponId}`
  )[0];
const holdersOf = async (codeId: number) =>
  (await clocked.sql`SELECT holder_count AS n FROM codes WHERE id = ${codeId}`)[0]?.n;
const countOf = async (table: string) =>
  (await clocked.sql`SELECT count(*)::int AS n FROM ${clocked.sql(table)}`)[0]?.n;

describe("a code's seat", () => {
  test.each([
    ["with the stock of what is deleted", true, 0, 0],
    ["not when what is deleted is not put back", false, 1, 1],
  ] as const)("goes back %s", async (_, restock, holderCount, issuedCount) => {
    const { couponId, codeIds } = await newBook([{ maxHolders: 3 }]);
    const [held] = await issue(couponId);
    await remove(held as Held, restock);
    expect(await holdersOf(codeIds[0] as number)).toBe(holderCount);
    expect(await stockOf(couponId)).toMatchObject({ quantity: 3, issuedCount, revision: 1 });
  });

  test("goes back with what is released, and another user gets the code", async () => {
    const { couponId, codeIds } = await newBook([{ maxHolders: 2 }], { claimWindowMs: secondMs });
    await issue(couponId, 2);
    await clocked.setClock(later(secondMs));
    expect((await userCoupons.release(10)).length).toBe(2);
    expect(await holdersOf(codeIds[0] as number)).toBe(0);
    await issue(couponId, 2);
    expect(await holdersOf(codeIds[0] as number)).toBe(2);
  });

  test("goes back with what its deletion releases first, wanted or not, and no second time with what was released before", async () => {
    const { couponId, codeIds } = await newBook([{ maxHolders: 2 }], { claimWindowMs: secondMs });
    const [late, released] = (await issue(couponId, 2)) as [Held, Held];
    await clocked.setClock(later(secondMs));
    await remove(late, false);
    expect(await holdersOf(codeIds[0] as number)).toBe(1);
    await userCoupons.release(10);
    await issue(couponId);
    await remove(released, true);
    expect(await holdersOf(codeIds[0] as number)).toBe(1);
    expect(await stockOf(couponId)).toMatchObject({ quantity: 2, issuedCount: 1 });
  });

  test("stays taken by what had expired before its window ended", async () => {
    const windows = { validityAfterIssueMs: secondMs, claimWindowMs: 2 * secondMs };
    const { couponId, codeIds } = await newBook([{ maxHolders: 2 }], windows);
    await issue(couponId);
    await clocked.setClock(later(2 * secondMs));
    expect(await userCoupons.release(10)).toEqual([]);
    expect(await holdersOf(codeIds[0] as number)).toBe(1);
  });

  test("is nobody's any more once the code was taken out of stock, also when the clock is set back", async () => {
    const { couponId, codeIds } = await newBook([{ expiresAt: later(secondMs) }]);
    await clocked.setClock(later(secondMs));
    await expireCodes(clocked.sql);
    await clocked.setClock(noon);
    const request = { couponId, userId: "user", userCouponId: randomUUID(), requestId: "" };
    const said = await issues.issueBatch([{ ...request, codeId: codeIds[0] as number }]);
    expect(said).toMatchObject([{ reason: "CODE_EXPIRED" }]);
    expect(await issues.issueBatch([request])).toMatchObject([{ reason: "SOLD_OUT" }]);
  });

  test("goes back, but into no stock, when the code has expired", async () => {
    const { couponId, codeIds } = await newBook([{ maxHolders: 5, expiresAt: later(hourMs / 2) }]);
    const [one] = await issue(couponId, 2);
    await clocked.setClock(later(hourMs / 2));
    await expireCodes(clocked.sql);
    expect(await stockOf(couponId)).toMatchObject({ quantity: 2, issuedCount: 2, revision: 2 });
    await remove(one as Held, true);
    expect(await holdersOf(codeIds[0] as number)).toBe(1);
    expect(await stockOf(couponId)).toMatchObject({ quantity: 1, issuedCount: 1, revision: 3 });
  });
});

describe("expiring", () => {
  const expirer = () => new Expirer(userCoupons);

  test("counts each once, though three do it at once, and puts it on record", async () => {
    const ids = [
      await newCoupon({ quantity: null, validityAfterIssueMs: secondMs }),
      await newCoupon({ quantity: null }),
    ];
    for (const id of ids) for (let n = 0; n < 3; n++) await issue(id, 250);
    await clocked.setClock(later(secondMs));
    await Promise.all([1, 2, 3].map(() => expirer().run()));
    expect((await stockOf(ids[0] as string))?.lapsedCount).toBe(750);
    expect((await stockOf(ids[1] as string))?.lapsedCount).toBe(0);
    expect(await countEvents(clocked.sql, ids[0] as string)).toMatchObject({ USER_COUPON_EXPIRED: 750 });
  });

  test("counts what ends with its code", async () => {
    const { couponId } = await newBook([{ expiresAt: later(secondMs) }]);
    await issue(couponId);
    await clocked.setClock(later(secondMs));
    await expirer().run();
    expect(await stockOf(couponId)).toMatchObject({ lapsedCount: 1 });
  });

  test("counts what was used since not again when that use is cancelled", async () => {
    const couponId = await newCoupon({ validityAfterIssueMs: secondMs, maxUses: 2 });
    const [held] = (await issue(couponId)) as [Held];
    await use(held);
    await clocked.setClock(later(secondMs));
    await expirer().run();
    const [usage] = await clocked.sql`SELECT id FROM usages WHERE user_coupon_id = ${held.userCouponId}`;
    await cancelOne(usages, { userId: held.userId, usageId: usage?.id, request: null });
    await expirer().run();
    expect(await stockOf(couponId)).toMatchObject({ lapsedCount: 1 });
    expect(await countEvents(clocked.sql, couponId)).toMatchObject({ USER_COUPON_EXPIRED: 1 });
  });

  test("leaves what is used up, deleted or released already", async () => {
    const couponId = await newCoupon({ validityAfterIssueMs: 2 * secondMs, claimWindowMs: secondMs });
    const [used, deleted, released, expired] = (await issue(couponId, 4)) as [Held, Held, Held, Held];
    await use(used);
    await remove(deleted, false);
    // It was used once, so that its window is over; and then the use was cancelled.
    await use(expired);
    const [usage] = await clocked.sql`SELECT id FROM usages WHERE user_coupon_id = ${expired.userCouponId}`;
    await cancelOne(usages, { userId: expired.userId, usageId: usage?.id, request: null });
    await clocked.setClock(later(2 * secondMs));
    await expirer().run();
    const rows = await clocked.sql`SELECT id FROM user_coupons WHERE lapsed`;
    expect(rows.map(({ id }) => id)).toEqual([expired.userCouponId]);
    expect((await userCoupons.release(10)).map(({ userCouponId }) => userCouponId)).toEqual([released.userCouponId]);
  });
});

test("what expired in a coupon that had ended is not released when the end is moved", async () => {
  const windows = { claimWindowMs: 15 * secondMs, validityAfterIssueMs: 20 * secondMs };
  const couponId = await newCoupon({ expiresAt: later(10 * secondMs), ...windows });
  await issue(couponId);
  await clocked.setClock(later(25 * secondMs));
  await userCoupons.expire(10);
  await clocked.sql`UPDATE coupons SET expires_at = ${later(hourMs)} WHERE id = ${couponId}`;
  expect(await userCoupons.release(10)).toEqual([]);
  expect(await stockOf(couponId)).toMatchObject({ issuedCount: 1, lapsedCount: 1 });
});

describe("a purge", () => {
  const logged: object[] = [];
  const log = { info: (details: object) => void logged.push(details) };
  const purger = (options: Partial<PurgeOptions> = {}) =>
    new Purger(
      new PostgresPurgeStore(clocked.database),
      { afterDays: 30, deletedCodesKeepHours: 24, dryRun: false, everyMinutes: 60, batchSize: 10, ...options },
      log,
    );
  beforeEach(() => void logged.splice(0));

  /** Of each kind 25, in a coupon that ends within the hour, and 5 that were used. */
  async function full(changed: Partial<CouponFacts> = {}): Promise<string> {
    const couponId = await newCoupon({ quantity: null, ...changed });
    const helds = await issue(couponId, 80);
    for (const held of helds.slice(0, 5)) await use(held);
    for (const held of helds.slice(5, 30)) await remove(held, true);
    await clocked.sql`UPDATE user_coupons SET claim_until = ${later(secondMs)}
      WHERE id = ANY (${helds.slice(30, 55).map((held) => held.userCouponId)}::text[]::uuid[])`;
    await clocked.setClock(later(secondMs));
    await userCoupons.release(100);
    return couponId;
  }

  test("leaves what was used once, also when the use was cancelled and it was deleted: its usage is on record", async () => {
    const [held] = (await issue(await newCoupon())) as [Held];
    await use(held);
    const [usage] = await clocked.sql`SELECT id FROM usages WHERE user_coupon_id = ${held.userCouponId}`;
    await cancelOne(usages, { userId: held.userId, usageId: usage?.id, request: null });
    await remove(held, false);
    await clocked.setClock(later(hourMs + 30 * dayMs));
    expect(await purger().purge()).toMatchObject({ userCoupons: 0 });
    expect(await countOf("user_coupons")).toBe(1);
  });

  test.each([
    ["user coupons", async () => issue(await newCoupon())],
    ["codes", () => newBook([{}])],
  ])("of %s that waits for their coupon goes by what is true when it has got it", async (_, make) => {
    await make();
    const [coupon] = await clocked.sql`SELECT id FROM coupons`;
    await clocked.setClock(later(hourMs + 30 * dayMs));
    const back = () => clocked.setClock(noon);
    const [said] = await whileWaiting(clocked.sql, coupon?.id, [() => purger().purge()], back);
    expect(said).toMatchObject({ status: "fulfilled", value: { userCoupons: 0, codes: 0 } });
  });

  test("removes what has been expired, deleted or released for long, in batches; what was used stays", async () => {
    const couponId = await full();
    await clocked.setClock(later(hourMs + 30 * dayMs - 1));
    // Those deleted and released are due, those that expired are not.
    expect(await purger().purge()).toMatchObject({ userCoupons: 50 });
    await clocked.setClock(later(hourMs + 30 * dayMs));
    expect(await purger().purge()).toEqual({ userCoupons: 25, codes: 0, requests: 0, quotaDays: 0 });
    expect(await purger().purge()).toMatchObject({ userCoupons: 0 });
    expect(await countOf("user_coupons")).toBe(5);
    const events = await clocked.sql`SELECT detail FROM events WHERE kind = 'USER_COUPONS_PURGED' ORDER BY seq`;
    const total = { expired: 0, deleted: 0, released: 0 };
    for (const { detail } of events) {
      for (const kind of ["expired", "deleted", "released"] as const) total[kind] += detail[kind];
    }
    expect(total).toEqual({ expired: 25, deleted: 25, released: 25 });
    expect(events.length).toBeGreaterThan(3);
    expect(logged.at(-1)).toMatchObject({ userCoupons: 25, dryRun: false });
    expect(await countEvents(clocked.sql, couponId)).toMatchObject({ USER_COUPON_ISSUED: 80, USER_COUPON_DELETED: 25 });
  });

  test("removes what has expired in a coupon that still runs, and its holder can be issued another one", async () => {
    const couponId = await newCoupon({ validityAfterIssueMs: secondMs, expiresAt: later(400 * dayMs) });
    const held = (await issue(couponId, 3)) as [Held, Held, Held];
    await clocked.setClock(later(secondMs));
    await userCoupons.expire(10);
    await clocked.setClock(later(secondMs + 30 * dayMs));
    expect(await purger().purge()).toMatchObject({ userCoupons: 3 });
    expect(await stockOf(couponId)).toMatchObject({ quantity: 10, issuedCount: 3 });
    const request = { couponId, userId: held[0].userId, userCouponId: randomUUID(), requestId: "" };
    expect((await issues.issueBatch([request]))[0]?.outcome).toBe("ISSUED");
  });

  test("leaves what was ever used, also when the use was cancelled since", async () => {
    const couponId = await newCoupon({ validityAfterIssueMs: 2 * secondMs });
    const ended = await newCoupon();
    const [, expired, deleted] = (await issue(couponId, 3)) as [Held, Held, Held];
    const [, ofEnded] = (await issue(ended, 2)) as [Held, Held];
    for (const held of [expired, deleted, ofEnded]) {
      await use(held);
      const [usage] = await clocked.sql`SELECT id FROM usages WHERE user_coupon_id = ${held.userCouponId}`;
      await cancelOne(usages, { userId: held.userId, usageId: usage?.id, request: null });
    }
    await remove(deleted, true);
    await clocked.setClock(later(2 * secondMs));
    await userCoupons.expire(10);
    await clocked.setClock(later(hourMs + 31 * dayMs));
    // One of each coupon was never used.
    expect(await purger().purge()).toMatchObject({ userCoupons: 2 });
    const rows = await clocked.sql`SELECT id FROM user_coupons`;
    const left = [expired, deleted, ofEnded].map(({ userCouponId }) => userCouponId);
    expect(rows.map(({ id }) => id).sort()).toEqual(left.sort());
  });

  test("leaves what was deleted lately, also of a coupon that ended long ago", async () => {
    const [, deleted] = (await issue(await newCoupon(), 2)) as [Held, Held];
    await clocked.setClock(later(hourMs + 29 * dayMs));
    await remove(deleted, false);
    for (const [days, purged] of [
      [58, 1],
      [59, 1],
    ] as const) {
      await clocked.setClock(later(hourMs + days * dayMs));
      expect(await purger().purge()).toMatchObject({ userCoupons: purged });
    }
  });

  test("of an end that was moved into the past counts from when it was moved", async () => {
    const couponId = await newCoupon({ expiresAt: later(400 * dayMs) });
    await issue(couponId, 3);
    await clocked.setClock(later(200 * dayMs));
    await clocked.sql`UPDATE coupons SET expires_at = ${later(secondMs)}, updated_at = coupon_clock() WHERE id = ${couponId}`;
    expect(await purger().purge()).toMatchObject({ userCoupons: 0 });
    await clocked.setClock(later(230 * dayMs));
    expect(await purger().purge()).toMatchObject({ userCoupons: 3 });
  });

  test("goes on in the next round where many used ones have stopped it", async () => {
    const couponId = await newCoupon({ quantity: null });
    const helds = await issue(couponId, 20);
    await clocked.sql`UPDATE user_coupons SET id = '00000000-0000-0000-0000-000000000001' WHERE id = ${(helds[0] as Held).userCouponId}`;
    await use({ ...(helds[0] as Held), userCouponId: "00000000-0000-0000-0000-000000000001" });
    await clocked.setClock(later(hourMs + 30 * dayMs));
    const one = purger({ batchSize: 1, maxBatches: 1 });
    expect(await one.purge()).toMatchObject({ userCoupons: 0 });
    expect(await one.purge()).toMatchObject({ userCoupons: 1 });
  });

  test("looks at so many coupons at a time, and goes on with the next ones, however many have nothing left", async () => {
    const [many, batchSize] = [20_000, 10];
    // For each of the coupons its row, and what leads there; of all of them it would be some thousands.
    const fewBlocks = 10 * batchSize;
    const insert = (count: number, prefix: string) => clocked.sql`
      INSERT INTO coupons (id, name, description, category, fixed_amount, currency_code, starts_at, expires_at, max_per_user,
        stackable, created_at, updated_at)
      SELECT (${prefix} || right(gen_random_uuid()::text, 28))::uuid, 'n', '', '', 1, 'USD', ${later(-hourMs)}, ${noon}, 1, false,
        ${noon}, ${noon}
      FROM generate_series(1, ${count})`;
    await issue(await newCoupon({ id: "00000001-0000-0000-0000-000000000000" }), 2);
    await issue(await newCoupon({ id: "00000003-0000-0000-0000-000000000000" }), 3);
    await insert(2 * batchSize, "00000002");
    await insert(many, "00000004");
    await clocked.setClock(later(hourMs + 30 * dayMs));
    const terms = { afterDays: 30, deletedCodesKeepHours: 24, dryRun: false, batchSize };
    // To whom the index seems dear, as statistics of another time may have it.
    const [row] = await clocked.sql`SELECT quote_ident(current_database()) AS name`;
    await clocked.sql.unsafe(`ALTER DATABASE ${row?.name} SET random_page_cost = 1000000`);
    const misled = openDatabase({ url: clocked.stores.databaseUrl, poolSize: 24 });
    onTestFinished(async () => {
      await misled.close();
      await clocked.sql.unsafe(`ALTER DATABASE ${row?.name} RESET random_page_cost`);
    });
    const planners = [clocked.database, misled].map((one) => explained(one, "background"));
    for (const prepare of [async () => {}, () => clocked.sql`ANALYZE coupons`]) {
      await prepare();
      for (const { database, blocksOf } of planners)
        for (const after of [null, "00000004-8000-0000-0000-000000000000"])
          expect(await blocksOf(() => new PostgresPurgeStore(database).findEnded(terms, after))).toBeLessThan(
            fewBlocks,
          );
    }
    const two = purger({ batchSize, maxPages: 2 });
    const done: number[] = [];
    for (let run = 0; run < 3; run += 1) done.push((await two.purge()).userCoupons);
    expect(done).toEqual([2, 3, 0]);
    // The last coupons, and then again from the beginning, where something has come in the meantime.
    await clocked.sql`DELETE FROM coupons WHERE id > '00000004-0000-0000-0000-000000000000'`;
    await issue(await newCoupon({ id: "00000000-1000-0000-0000-000000000000", expiresAt: later(31 * dayMs) }));
    await clocked.setClock(later(62 * dayMs));
    for (let run = 0; run < 2; run += 1) done.push((await two.purge()).userCoupons);
    expect(done).toEqual([2, 3, 0, 0, 1]);
  });

  test("does nothing in a dry run but say what it would do", async () => {
    await full();
    const { couponId } = await newBook([{ maxHolders: 1 }, { maxHolders: 1 }]);
    await issue(couponId);
    await clocked.sql`INSERT INTO requests VALUES ('M', 'r', decode('00', 'hex'), '{}', ${noon})`;
    await clocked.sql`INSERT INTO quota_days VALUES ('g', 'u', '2030-06-01', 1)`;
    await clocked.setClock(later(hourMs + 31 * dayMs));
    const tables = ["coupons", "user_coupons", "codes", "events", "requests", "quota_days"];
    const contents = () =>
      Promise.all(tables.map((table) => clocked.sql`SELECT t::text FROM ${clocked.sql(table)} t ORDER BY 1`));
    const before = await contents();
    const would = { userCoupons: 76, codes: 2, requests: 1, quotaDays: 1 };
    expect(await purger({ dryRun: true }).purge()).toEqual(would);
    expect(logged).toEqual([{ ...would, dryRun: true }]);
    expect(await contents()).toEqual(before);
    expect(await purger().purge()).toEqual(would);
  });

  test("is done by one at a time, and by two together once", async () => {
    await full();
    await clocked.setClock(later(hourMs + 30 * dayMs));
    await clocked.sql.begin(async (tx) => {
      await tx`SELECT claim_purge()`;
      expect(await purger().purge()).toEqual({ userCoupons: 0, codes: 0, requests: 0, quotaDays: 0 });
    });
    const done = await Promise.all([purger().purge(), purger().purge()]);
    const rest = await purger().purge();
    expect([...done, rest].reduce((sum, { userCoupons: n }) => sum + n, 0)).toBe(75);
    expect(await countOf("user_coupons")).toBe(5);
  });

  test("removes old requests and quota days, and no young ones", async () => {
    for (let age = 0; age < 40; age++) {
      await clocked.sql`INSERT INTO requests VALUES ('M', ${`r${age}`}, decode('00', 'hex'), '{}', ${later(-age * dayMs)})`;
      await clocked.sql`INSERT INTO quota_days VALUES ('g', 'u', ${later(-age * dayMs)
        .toISOString()
        .slice(0, 10)}, 1)`;
    }
    expect(await purger().purge()).toMatchObject({ requests: 10, quotaDays: 36 });
    const [oldest] =
      await clocked.sql`SELECT min(created_at) AS request, min(day)::text AS day FROM requests, quota_days`;
    expect(oldest).toEqual({ request: later(-29 * dayMs), day: "2030-05-29" });
    expect(await purger({ afterDays: 1 }).purge()).toMatchObject({ requests: 29, quotaDays: 0 });
  });

  test("removes codes that expired free, and what is left of stock is what codes have left", async () => {
    const soon = later(secondMs);
    const { couponId } = await newBook(
      [{ expiresAt: soon, maxHolders: 4 }, { expiresAt: soon }, { maxHolders: 3 }, {}, {}],
      { expiresAt: later(400 * dayMs) },
    );
    const [held] = await issue(couponId);
    await clocked.setClock(soon);
    await expireCodes(clocked.sql);
    await clocked.setClock(later(secondMs + 30 * dayMs));
    await userCoupons.expire(10);
    // The first code was held, and goes with its holder.
    expect(await purger().purge()).toMatchObject({ userCoupons: 1, codes: 2 });
    expect(await userCoupons.get((held as Held).userId, (held as Held).userCouponId, farMs)).toBeNull();
    expect(await stockOf(couponId)).toMatchObject({ quantity: 6, issuedCount: 1, revision: 2 });
    await issue(couponId, 2);
    // When the coupon ends itself, its free codes go, too; those of users who have used theirs stay.
    const rows = await clocked.sql`SELECT id, user_id FROM user_coupons`;
    await use({ couponId, userCouponId: rows[0]?.id, userId: rows[0]?.user_id });
    await clocked.setClock(later(430 * dayMs));
    expect(await purger().purge()).toMatchObject({ userCoupons: 1 });
    const codes = await clocked.sql`SELECT holder_count FROM codes WHERE holder_count > 0`;
    expect(codes.length).toBeGreaterThan(0);
    expect(await countEvents(clocked.sql, couponId)).toMatchObject({ CODES_PURGED: expect.any(Number) });
  });

  test("keeps a code of many as long as somebody may still get it", async () => {
    const { couponId, codeIds } = await newBook([{ maxHolders: 3 }], {
      validityAfterIssueMs: secondMs,
      expiresAt: later(400 * dayMs),
    });
    await issue(couponId, 2);
    await clocked.setClock(later(secondMs));
    await userCoupons.expire(10);
    await clocked.setClock(later(secondMs + 30 * dayMs));
    expect(await purger().purge()).toMatchObject({ userCoupons: 2, codes: 0 });
    expect(await holdersOf(codeIds[0] as number)).toBe(2);
    await issue(couponId);
  });

  test("removes such a code, too, when the coupon has ended and nobody has it any more", async () => {
    const { couponId } = await newBook([{ maxHolders: 3 }], { expiresAt: later(40 * dayMs) });
    for (const held of await issue(couponId, 2)) await remove(held, false);
    await clocked.setClock(later(31 * dayMs));
    expect(await purger().purge()).toMatchObject({ userCoupons: 2, codes: 0 });
    await clocked.setClock(later(70 * dayMs));
    expect(await purger().purge()).toMatchObject({ userCoupons: 0, codes: 1 });
    expect(await stockOf(couponId)).toMatchObject({ quantity: 2, issuedCount: 2 });
  });

  test("frees the codes of a book that was deleted some hours ago; what users had of it stays", async () => {
    const { couponId } = await newBook([{ code: "freed-1" }, { code: "freed-2" }, { code: "freed-3" }], {
      expiresAt: later(400 * dayMs),
    });
    const other = await newBook([{ code: "other-1" }], { expiresAt: later(400 * dayMs) });
    const [held, deleted] = (await issue(couponId, 2)) as [Held, Held];
    await clocked.sql`UPDATE coupons SET deleted_at = coupon_clock(), updated_at = coupon_clock() WHERE id = ${couponId}`;
    await remove(deleted, false);
    await clocked.setClock(later(6 * hourMs - 1));
    expect(await purger({ deletedCodesKeepHours: 6 }).purge()).toMatchObject({ codes: 0 });
    await clocked.setClock(later(6 * hourMs));
    expect(await purger({ deletedCodesKeepHours: 7 }).purge()).toMatchObject({ codes: 0 });
    expect(await purger({ deletedCodesKeepHours: 6, dryRun: true }).purge()).toMatchObject({ codes: 1 });
    expect(await purger({ deletedCodesKeepHours: 6 }).purge()).toMatchObject({ codes: 1, userCoupons: 0 });
    const left = async () =>
      (await clocked.sql`SELECT code FROM codes WHERE coupon_id = ${couponId}`).map(({ code }) => code);
    expect(await left()).not.toContain("freed-3");
    expect((await left()).length).toBe(2);
    expect(await stockOf(couponId)).toMatchObject({ quantity: 2, issuedCount: 2 });
    // The same text in another book. Text that a user has stays taken, and the withdrawn one goes with its user coupon.
    await insertCodes(clocked.sql, other.couponId, [{ code: "freed-3" }]);
    await expect(insertCodes(clocked.sql, other.couponId, [{ code: (await left())[0] as string }])).rejects.toThrow(
      "codes_one_per_key",
    );
    await clocked.setClock(later(30 * dayMs));
    expect(await purger().purge()).toMatchObject({ codes: 1, userCoupons: 1 });
    expect((await clocked.sql`SELECT id FROM user_coupons`).map(({ id }) => id)).toEqual([held.userCouponId]);
  });

  test("is no difference to the gate: what it loads afterwards is right", async () => {
    const couponId = await newCoupon({ validityAfterIssueMs: secondMs, expiresAt: later(400 * dayMs) });
    await issue(couponId, 4);
    await clocked.setClock(later(secondMs));
    await userCoupons.expire(10);
    await clocked.setClock(later(secondMs + 30 * dayMs));
    const gate = new MemoryGate({ reservationMs: 5_000 });
    const keeper = new GateKeeper(gate, issues, usages, log, unreported);
    const stock = async () => (await gate.survey(10, 10))[0]?.loaded?.stock;
    for (const when of ["before", "after"]) {
      if (when === "after") await purger().purge();
      await until("it is loaded", async () => {
        keeper.load(couponId);
        return (await stock()) !== undefined;
      });
      expect(await stock()).toBe(6);
      await keeper.invalidate(couponId);
    }
    await keeper.close();
    await gate.close();
  });
});

test("a user coupon of several uses counts as used up with the last one, and not any more when one is cancelled", async () => {
  const couponId = await newCoupon({ maxUses: 3, quantity: null });
  const held = await hold(clocked.sql, couponId, noon, { maxUses: 3 });
  const counters = async () =>
    (
      await clocked.sql`SELECT used_up_count::int AS "usedUp", placed_holder_count::int AS placed, cancelled_total::int AS cancelled
        FROM coupons WHERE id = ${couponId}`
    )[0];
  const batch = [1, 2].map(() => useRequestOf(held));
  await usages.useBatch(batch, { again: false, together: false });
  expect(await counters()).toEqual({ usedUp: 0, placed: 1, cancelled: 0 });
  // Two more, of which one is too many.
  await usages.useBatch([useRequestOf(held), useRequestOf(held)], { again: false, together: false });
  expect(await counters()).toEqual({ usedUp: 1, placed: 1, cancelled: 0 });
  await cancelOne(usages, { userId: held.userId, usageId: (batch[0] as { usageId: string }).usageId, request: null });
  expect(await counters()).toEqual({ usedUp: 0, placed: 1, cancelled: 1 });
  await use(held);
  await remove(held, false);
  expect(await counters()).toEqual({ usedUp: 0, placed: 0, cancelled: 1 });
  await cancelOne(usages, { userId: held.userId, usageId: (batch[1] as { usageId: string }).usageId, request: null });
  expect(await counters()).toEqual({ usedUp: 0, placed: 0, cancelled: 2 });
});
