import { randomUUID } from "node:crypto";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { PostgresIssueStore } from "../../src/storage/postgres/issuing/issue-store.js";
import { PostgresUserCouponStore } from "../../src/storage/postgres/user-coupons/user-coupon-store.js";
import { PostgresUsageStore } from "../../src/storage/postgres/using/usage-store.js";
import { type ClockedDatabase, insertCoupon, openClockedDatabase, openCoupon } from "./clocked-database.js";
import { cancelOne, type Held, hold, lockRequestOf, readUserCoupon, useRequestOf } from "./usage-world.js";
import { whileWaiting } from "./waiting.js";

/** Who waits for a coupon's row lock is decided by the time when it gets the lock: else an old time would decide. */
const noon = new Date("2030-06-01T12:00:00.000Z");
const waitedMs = 1_000;
const after = new Date(noon.getTime() + waitedMs);
const lockDurationMs = 10_000;
const farMs = Date.now() + 3_600_000;

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
beforeEach(() => clocked.setClock(noon));
afterAll(() => clocked?.close());

/** What a call says that waits for its coupon's row from noon on and gets it a second later. */
async function afterWait<T>({ couponId }: Pick<Held, "couponId">, call: () => Promise<T>): Promise<T> {
  const [said] = await whileWaiting(clocked.sql, couponId, [call], () => clocked.setClock(after));
  if (said?.status !== "fulfilled") throw said?.reason;
  return said.value;
}
const newCoupon = (expiresAt?: Date) =>
  insertCoupon(clocked.sql, openCoupon(noon, { lockDurationMs, ...(expiresAt && { expiresAt }) }));
const newHeld = async (facts: Parameters<typeof hold>[3] = {}) => hold(clocked.sql, await newCoupon(), noon, facts);
const issue = async (couponId: string) => {
  const request = { couponId, userId: "user", requestId: "", userCouponId: randomUUID() };
  return (await issues.issueBatch([request]))[0];
};
const lock = async (held: Held) => (await usages.lockBatch([lockRequestOf(held)], { together: false }))[0];
const use = async (held: Held, usageId: string = randomUUID()) =>
  (await usages.useBatch([useRequestOf(held, { usageId })], { again: false, together: false }))[0];

describe("an issue that waits for its coupon", () => {
  test("is refused when the coupon has ended meanwhile", async () => {
    const couponId = await newCoupon(after);
    const said = await afterWait({ couponId }, () => issue(couponId));
    expect(said).toEqual({ outcome: "REFUSED", reason: "COUPON_ENDED" });
  });

  test("is issued as of when it got the lock", async () => {
    const couponId = await newCoupon();
    const said = await afterWait({ couponId }, () => issue(couponId));
    expect(said).toMatchObject({ outcome: "ISSUED", userCoupon: { issuedAt: after } });
  });
});

describe("a lock that waits for its coupon", () => {
  test("is refused when the user coupon has expired meanwhile", async () => {
    const held = await newHeld({ validUntil: after });
    expect(await afterWait(held, () => lock(held))).toEqual({ outcome: "REFUSED", reason: "USER_COUPON_EXPIRED" });
  });

  test("lasts from when it was got", async () => {
    const held = await newHeld();
    const until = new Date(after.getTime() + lockDurationMs);
    expect(await afterWait(held, () => lock(held))).toMatchObject({ outcome: "GRANTED", lock: { until } });
  });

  test("is granted when an earlier one has run out meanwhile", async () => {
    const held = await newHeld({ lockedUntil: after, lockVersion: 1, lockToken: "other" });
    expect(await afterWait(held, () => lock(held))).toMatchObject({
      outcome: "GRANTED",
      lock: { version: expect.any(Number) },
    });
  });
});

test("a use that waits for its coupon is refused when the user coupon has expired meanwhile", async () => {
  const held = await newHeld({ validUntil: after });
  expect(await afterWait(held, () => use(held))).toEqual({ outcome: "REFUSED", reason: "USER_COUPON_EXPIRED" });
});

test("a cancelled use is on record as of when it got the lock", async () => {
  const held = await newHeld();
  const usageId = randomUUID();
  await use(held, usageId);
  const said = await afterWait(held, () => cancelOne(usages, { userId: held.userId, usageId, request: null }));
  expect(said).toMatchObject({ usage: { usedAt: noon, cancelledAt: after } });
});

test("a deletion is not kept away by a lock that has run out meanwhile", async () => {
  const held = await newHeld({ lockedUntil: after, lockVersion: 1, lockToken: "other" });
  const deletion = { ...held, restock: true, deleteUsed: false, request: null };
  const said = await afterWait(held, () => userCoupons.delete(deletion, async () => {}, farMs));
  expect(said).toEqual({ restocked: true, replayed: false });
  expect(await readUserCoupon(clocked.sql, held)).toMatchObject({ deletedAt: after });
});
