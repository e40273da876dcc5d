import { afterAll, beforeAll, beforeEach, expect, test } from "vitest";
import { PostgresCodeStore } from "../../src/storage/postgres/codes/code-store.js";
import { PostgresUserCouponStore } from "../../src/storage/postgres/user-coupons/user-coupon-store.js";
import { until } from "../support/until.js";
import { type ClockedDatabase, insertCoupon, openClockedDatabase, openCoupon } from "./clocked-database.js";
import { insertCodes } from "./codes-world.js";
import { hold } from "./usage-world.js";
import { untilWaiting } from "./waiting.js";

/** What runs by itself takes many coupons at once, of which somebody may hold one. */
const noon = new Date("2030-06-01T12:00:00.000Z");
const soon = new Date(noon.getTime() + 1_000);
const later = new Date(noon.getTime() + 60_000);

let clocked: ClockedDatabase;
let userCoupons: PostgresUserCouponStore;
let codes: PostgresCodeStore;

beforeAll(async () => {
  clocked = await openClockedDatabase(noon);
  userCoupons = new PostgresUserCouponStore(clocked.database);
  codes = new PostgresCodeStore(clocked.database);
});
beforeEach(() => clocked.setClock(noon));
afterAll(() => clocked?.close());

const jobs: { name: string; make(couponId: string): Promise<unknown>; run(): Promise<unknown>; event: string }[] = [
  {
    name: "released",
    make: (couponId) => hold(clocked.sql, couponId, noon, { claimUntil: soon }),
    run: () => userCoupons.release(100),
    event: "USER_COUPON_RELEASED",
  },
  {
    name: "counted as expired",
    make: async (couponId) => {
      const { userCouponId } = await hold(clocked.sql, couponId, noon, { validUntil: soon });
      await clocked.sql`UPDATE user_coupons SET lapse_at = valid_until WHERE id = ${userCouponId}`;
    },
    run: () => userCoupons.expire(100),
    event: "USER_COUPON_EXPIRED",
  },
  {
    name: "taken out of stock",
    make: (couponId) => insertCodes(clocked.sql, couponId, [{ expiresAt: soon }]),
    run: () => codes.expire(100),
    event: "CODES_EXPIRED",
  },
];

/** Three coupons with something due, in the order of their ids. */
async function dueOfThree(make: (couponId: string) => Promise<unknown>): Promise<[string, string, string]> {
  const ids: string[] = [];
  for (let n = 0; n < 3; n++) ids.push(await insertCoupon(clocked.sql, openCoupon(noon)));
  for (const id of ids) await make(id);
  await clocked.setClock(later);
  return ids.sort() as [string, string, string];
}

async function doneOf(couponIds: readonly string[], event: string): Promise<string[]> {
  const rows =
    await clocked.sql`SELECT coupon_id FROM events WHERE kind = ${event} AND coupon_id = ANY (${couponIds as string[]}::uuid[])`;
  return rows.map((row) => row.coupon_id).sort();
}

test.for(jobs)("beside a coupon that somebody holds, what is due of others is $name", async ({ make, run, event }) => {
  const ids = await dueOfThree(make);
  const [first, held, last] = ids;
  await clocked.sql.begin(async (tx) => {
    await tx`SELECT FROM coupons WHERE id = ${held} FOR UPDATE`;
    await run();
    expect(await doneOf(ids, event)).toEqual([first, last]);
  });
  await run();
  expect(await doneOf(ids, event)).toEqual(ids);
});

test.for(jobs)(
  "what is due of a coupon that is held for a moment is $name with the others",
  async ({ make, run, event }) => {
    const ids = await dueOfThree(make);
    let running: Promise<unknown> = Promise.resolve();
    await clocked.sql.begin(async (tx) => {
      await tx`SELECT FROM coupons WHERE id = ${ids[1]} FOR UPDATE`;
      running = run();
      running.catch(() => {});
      await untilWaiting(clocked.sql, 1);
    });
    await running;
    expect(await doneOf(ids, event)).toEqual(ids);
  },
);

test("where all that is due is of a held coupon, it is waited for as long as for any other lock", async () => {
  const couponId = await insertCoupon(clocked.sql, openCoupon(noon));
  await hold(clocked.sql, couponId, noon, { claimUntil: soon });
  await clocked.setClock(later);
  let running: Promise<unknown[]> = Promise.resolve([]);
  const tries = new Set<string>();
  await clocked.sql.begin(async (tx) => {
    await tx`SELECT FROM coupons WHERE id = ${couponId} FOR UPDATE`;
    running = userCoupons.release(100);
    running.catch(() => {});
    await until("it has asked again, and waits for longer than the first time", async () => {
      const [row] = await clocked.sql<{ since: string; long: boolean }[]>`
        SELECT query_start::text AS since, clock_timestamp() - query_start > interval '400 ms' AS long FROM pg_stat_activity
        WHERE datname = current_database() AND wait_event_type = 'Lock'`;
      if (row) tries.add(row.since);
      return tries.size > 1 && row?.long;
    });
  });
  expect(await running).toHaveLength(1);
});
