import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { PostgresCouponStore } from "../../src/storage/postgres/coupons/coupon-store.js";
import { PostgresUserCouponStore } from "../../src/storage/postgres/user-coupons/user-coupon-store.js";
import { PostgresUsageStore } from "../../src/storage/postgres/using/usage-store.js";
import { callContext } from "../support/call-context.js";
import { type ClockedDatabase, insertCoupon, openClockedDatabase, openCoupon } from "./clocked-database.js";
import { type Held, hold, useRequestOf } from "./usage-world.js";

const noon = new Date("2030-06-01T12:00:00.000Z");
const later = (ms: number) => new Date(noon.getTime() + ms);
const farMs = Date.now() + 3_600_000;

let clocked: ClockedDatabase;
let coupons: PostgresCouponStore;
let usages: PostgresUsageStore;
let userCoupons: PostgresUserCouponStore;
let held: Held;

beforeAll(async () => {
  clocked = await openClockedDatabase(noon);
  coupons = new PostgresCouponStore(clocked.database);
  usages = new PostgresUsageStore(clocked.database);
  userCoupons = new PostgresUserCouponStore(clocked.database);
});
beforeEach(async () => {
  await clocked.setClock(noon);
  held = await hold(clocked.sql, await insertCoupon(clocked.sql, openCoupon(noon)), noon);
});
afterAll(() => clocked?.close());

async function editTo(basisPoints: number, at: Date): Promise<void> {
  await clocked.setClock(at);
  await coupons.change(
    { id: held.couponId, revision: 0, kind: "COUPON_UPDATED", request: null },
    ({ discount }) => ({ discount: { ...discount, kind: { case: "percentage", basisPoints } } }),
    async () => {},
    callContext(farMs),
  );
}

/** As a standby has it that was promoted without the last edit. */
async function loseEdit(): Promise<void> {
  const rows = await clocked.sql`
    UPDATE coupons SET revision = revision - 1, percentage_basis_points = 1000, updated_at = starts_at
    WHERE id = ${held.couponId} AND revision = 2 RETURNING id`;
  expect(rows).toHaveLength(1);
}

const choose = async () => (await usages.readChosen([{ ...held, orderId: "" }]))[0]!.value!.coupon;
const get = async () => (await userCoupons.get(held.userId, held.userCouponId, farMs))!.value.coupon;
const list = async () => (await userCoupons.list(held.userId, { size: 10, before: null }, null, farMs)).rows[0]!.coupon;
const reads = { choose, get, list };
const basisPointsOf = async (read: () => ReturnType<typeof get>) => {
  const { discount, revision } = await read();
  return { revision, basisPoints: discount.kind.case === "percentage" && discount.kind.basisPoints };
};

describe("after a failover that lost an edit, when another one has got its revision", () => {
  test.each(Object.entries(reads))("the new definition is read: %s", async (_, read) => {
    await editTo(2_000, later(1));
    expect(await basisPointsOf(read)).toEqual({ revision: 2, basisPoints: 2_000 });
    await loseEdit();
    await editTo(3_000, later(2));
    expect(await basisPointsOf(read)).toEqual({ revision: 2, basisPoints: 3_000 });
  });

  test("a use that was judged by the lost one is judged anew", async () => {
    await editTo(2_000, later(1));
    const lost = await choose();
    await loseEdit();
    await editTo(3_000, later(2));
    const useBy = async ({ revision, updatedAt }: typeof lost) => {
      const request = useRequestOf(held, { revision, updatedAt });
      return (await usages.useBatch([request], { again: false, together: false }))[0]?.outcome;
    };
    expect(await useBy(lost)).toBe("STALE");
    expect(await useBy(await choose())).toBe("USED");
  });
});

test("a time with microseconds names one definition on every way, which is remembered", async () => {
  await clocked.sql`UPDATE coupons SET updated_at = ${noon.toISOString()}::text::timestamptz + interval '999.9 milliseconds'
    WHERE id = ${held.couponId}`;
  for (const read of Object.values(reads)) {
    const { discount } = await read();
    expect((await read()).discount).toBe(discount);
  }
  const { revision, updatedAt } = await choose();
  const request = useRequestOf(held, { revision, updatedAt });
  expect(await usages.useBatch([request], { again: false, together: false })).toMatchObject([{ outcome: "USED" }]);
});
