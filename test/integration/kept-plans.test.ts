import { afterAll, beforeAll, expect, test } from "vitest";
import { PostgresTargetStore } from "../../src/storage/postgres/issuing/target-store.js";
import { PostgresUserCouponStore } from "../../src/storage/postgres/user-coupons/user-coupon-store.js";
import { PostgresUsageStore } from "../../src/storage/postgres/using/usage-store.js";
import { type ClockedDatabase, insertCoupon, openClockedDatabase, openCoupon } from "./clocked-database.js";

/**
 * To plan a statement of a checkout takes Postgres several times as long as to run it. A plan is only kept when it is not estimated to cost
 * more than those that are made for the values of one call, so with large tables and little asked for, as callers are who come one by one.
 */

const noon = new Date("2030-06-01T12:00:00.000Z");
const farMs = Date.now() + 3_600_000;
const many = 5_000;
const calls = 30;
/** Postgres plans a statement anew so often before it thinks of keeping a plan. */
const plansAtFirst = 5;

let clocked: ClockedDatabase;
let couponId: string;
let held: { id: string; user_id: string; code: string; request_id: string }[];

beforeAll(async () => {
  // One connection for each purpose.
  clocked = await openClockedDatabase(noon, 4);
  const { sql } = clocked;
  couponId = await insertCoupon(sql, openCoupon(noon, { quantity: null }));
  await sql`
    INSERT INTO codes (coupon_id, code, code_key, max_holders, holder_count, pick_key, created_at)
    SELECT ${couponId}, 'code' || n, 'CODE' || n, 1, 1, n, ${noon} FROM generate_series(1, ${many}) n`;
  await sql`
    INSERT INTO user_coupons (id, coupon_id, user_id, slot, request_id, issued_at, code_id, code)
    SELECT gen_random_uuid(), coupon_id, 'user ' || id, 1, gen_random_uuid()::text, ${noon}, id, code FROM codes`;
  await sql`
    INSERT INTO usages (id, user_coupon_id, coupon_id, user_id, product_id, order_id, currency_code, order_amount, discount_amount,
      used_at, item)
    SELECT gen_random_uuid(), id, coupon_id, user_id, 'product', 'order ' || user_id, 'USD', 1000, 10, ${noon}, 0 FROM user_coupons`;
  await sql`ANALYZE`;
  held = await sql`SELECT id, user_id, code, request_id FROM user_coupons LIMIT ${calls}`;
});
afterAll(() => clocked?.close());

test("what callers ask for by keys is planned once, however little one of them asks for", async () => {
  const { database } = clocked;
  const usages = new PostgresUsageStore(database);
  const userCoupons = new PostgresUserCouponStore(database);
  const targets = new PostgresTargetStore(database);
  for (const { id, user_id: userId, code, request_id: requestId } of held) {
    const [read] = await usages.readChosen([{ userId, userCouponId: id, orderId: `order ${userId}` }]);
    expect(read).toMatchObject({ value: { userCoupon: { id } }, standing: { count: 1 } });
    expect(await usages.findByCodes(userId, [{ userCouponId: "", code, lockVersion: 0 }], "", farMs)).toEqual([[id]]);
    expect(await targets.findCode(code, farMs, userId)).toMatchObject({ couponId, isTaken: true });
    expect(await targets.findCode(code, farMs, "somebody else")).toBeNull();
    expect(await targets.findEarlierIssue(requestId, farMs)).toMatchObject({ userId, couponId });
    expect((await userCoupons.get(userId, id, farMs))?.value.userCoupon.id).toBe(id);
    await userCoupons.list(userId, { size: 10, before: null }, null, farMs);
    await usages.ofUserCoupons(userId, [id], 10, farMs);
  }
  const planned = await database.reads.run(
    farMs,
    ({ sql }) => sql<{ statement: string; kept: number; own: number }[]>`
      SELECT statement, generic_plans::int AS kept, custom_plans::int AS own FROM pg_prepared_statements
      WHERE generic_plans + custom_plans >= ${calls}`,
  );
  expect(planned.length).toBeGreaterThanOrEqual(6);
  expect(planned.filter(({ own }) => own > plansAtFirst)).toEqual([]);
});

test("the functions that callers wait for keep their plans, whatever those are estimated to cost", async () => {
  const waitedFor = ["issue", "lock", "use", "unlock", "list"].map((verb) => `${verb}_user_coupons`);
  const kept = await clocked.sql<{ name: string }[]>`
    SELECT proname AS name FROM pg_proc
    WHERE pronamespace::regnamespace::text = (current_schemas(false))[1] AND 'plan_cache_mode=force_generic_plan' = ANY (proconfig)`;
  expect(kept.map(({ name }) => name)).toEqual(expect.arrayContaining([...waitedFor, "cancel_usages"]));
});
