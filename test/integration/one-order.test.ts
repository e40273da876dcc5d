import { randomUUID } from "node:crypto";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import type { UseRequest, UseResult } from "../../src/storage/ports/usages.js";
import { PostgresUsageStore } from "../../src/storage/postgres/using/usage-store.js";
import {
  type ClockedDatabase,
  type CouponFacts,
  insertCoupon,
  openClockedDatabase,
  openCoupon,
} from "./clocked-database.js";
import { expectCounted, type Held, hold, lockRequestOf, orderOf, readUserCoupon, useRequestOf } from "./usage-world.js";
import { untilWaiting } from "./waiting.js";

const noon = new Date("2030-06-01T12:00:00.000Z");
const single = { again: false, together: false };
const together = { again: false, together: true };

let clocked: ClockedDatabase;
let store: PostgresUsageStore;

beforeAll(async () => {
  clocked = await openClockedDatabase(noon);
  store = new PostgresUsageStore(clocked.database);
});
beforeEach(() => clocked.setClock(noon));
afterAll(async () => {
  if (!clocked) return;
  await expectCounted(clocked.sql);
  await clocked.close();
});

/** User coupons of one user, each of a coupon of its own. */
async function heldBy(
  userId: string,
  count: number,
  changed: Partial<CouponFacts> & { stackable?: boolean } = {},
): Promise<Held[]> {
  const { stackable = true, ...facts } = changed;
  const helds: Held[] = [];
  for (let n = 0; n < count; n++) {
    const couponId = await insertCoupon(clocked.sql, openCoupon(noon, { quantity: null, ...facts }));
    await clocked.sql`UPDATE coupons SET stackable = ${stackable} WHERE id = ${couponId}`;
    helds.push(await hold(clocked.sql, couponId, noon, { userId, maxUses: changed.maxUses ?? 1 }));
  }
  return helds;
}
const newUser = () => `user-${randomUUID()}`;
const use = async (request: UseRequest) => ((await store.useBatch([request], single))[0] as UseResult).outcome;
const standingOf = async (held: Held, orderId: string) => (await store.readChosen([{ ...held, orderId }]))[0]!.standing;
/** Those that were granted, by user coupon. */
const versions = new Map<string, number>();
const lock = async (held: Held, orderId: string, lockVersion = 0) => {
  const [result] = await store.lockBatch([lockRequestOf(held, { orderId, lockVersion })], { together: false });
  if (result?.outcome === "GRANTED") versions.set(held.userCouponId, result.lock.version);
  return result?.outcome === "REFUSED" ? result.reason : (result?.outcome as string);
};

describe("what stands of an order", () => {
  test("is the user's own uses of it that were not cancelled, and its mark names exactly these", async () => {
    const [a, b] = (await heldBy(newUser(), 2)) as [Held, Held];
    const [stranger] = (await heldBy(newUser(), 1)) as [Held];
    const marks = new Set<string>();
    const read = async () => {
      const standing = await standingOf(a, "one");
      marks.add(standing.mark);
      return standing;
    };
    expect(await read()).toEqual({ count: 0, discounted: 0, stackable: true, amount: null, mark: "" });
    expect(await use(useRequestOf(stranger, { orderId: "one" }))).toBe("USED");
    expect(await use(useRequestOf(a, { orderId: "another" }))).toBe("USED");
    expect(await read()).toMatchObject({ count: 0, mark: "" });
    const amount = { currencyCode: "USD", minorUnits: 10_000 };
    const request = useRequestOf(b, { orderId: "one" });
    expect(await use(request)).toBe("USED");
    expect(await read()).toMatchObject({ count: 1, discounted: 1_000, stackable: true, amount });
    await clocked.sql`UPDATE coupons SET stackable = false WHERE id = ${b.couponId}`;
    expect(await read()).toMatchObject({ count: 1, discounted: 1_000, stackable: false, amount });
    // As an earlier release let it be.
    await clocked.sql`UPDATE usages SET order_amount = 20_000, order_id = 'one' WHERE user_coupon_id = ${a.userCouponId}`;
    expect(await read()).toMatchObject({ count: 2, discounted: 2_000, stackable: false, amount: null });
    await store.cancelBatch([{ ...a, request: { requestId: randomUUID(), inputHash: new Uint8Array() } }], false);
    expect(await read()).toMatchObject({ count: 1, discounted: 1_000, stackable: false });
    expect(marks.size).toBe(4);
  });
});

describe("an order that another call uses at the same moment", () => {
  const rowOf = (request: UseRequest) => ({
    ...{ id: request.usageId, user_coupon_id: request.userCouponId, coupon_id: request.couponId },
    ...{ user_id: request.userId, lock_version: 0, revision: 1, product_id: "product", order_id: request.orderId },
    ...{ currency_code: "USD", order_amount: 10_000, discount_amount: 1_000, discounted_before: 0 },
    ...{ request_id: null, item: request.item, order_mark: request.orderMark },
  });
  /** As useBatch() does it, but committed only when `next` has come to wait for it. */
  async function whileUsing<T>(request: UseRequest, next: () => Promise<T>): Promise<T> {
    let running: Promise<T> | undefined;
    await clocked.sql.begin(async (tx) => {
      const rows = await tx`
        SELECT outcome FROM use_user_coupons(${[request.couponId]}::uuid[], ${JSON.stringify([rowOf(request)])}::text::json, false, false)`;
      expect(rows.map(({ outcome }) => outcome)).toEqual(["USED"]);
      running = next();
      running.catch(() => {});
      await untilWaiting(clocked.sql, 1);
    });
    return (await running) as T;
  }

  test("is waited for, and then what was judged is out of date: one user coupon, and several", async () => {
    const [a, b, c, d] = (await heldBy(newUser(), 4)) as [Held, Held, Held, Held];
    const orderId = randomUUID();
    expect(await whileUsing(useRequestOf(a, { orderId }), () => use(useRequestOf(b, { orderId })))).toBe("STALE");
    const other = randomUUID();
    const several = orderOf([c, d], { orderId: other });
    const results = await whileUsing(useRequestOf(b, { orderId: other }), () => store.useBatch(several, together));
    expect(results.map(({ outcome }) => outcome)).toEqual(["STALE", "STALE"]);
    for (const held of [c, d]) expect(await readUserCoupon(clocked.sql, held)).toMatchObject({ useCount: 0 });
    const { mark } = await standingOf(c, other);
    const again = await store.useBatch(orderOf([c, d], { orderId: other, orderMark: mark }), together);
    expect(again.map(({ outcome }) => outcome)).toEqual(["USED", "USED"]);
  });

  test("is waited for by who cancels another use of the order, by its id or by its user coupon", async () => {
    for (const name of ["usageId", "userCouponId"] as const) {
      const [a, b] = (await heldBy(newUser(), 2)) as [Held, Held];
      const orderId = randomUUID();
      const first = useRequestOf(a, { orderId });
      expect(await use(first)).toBe("USED");
      const { mark: orderMark } = await standingOf(a, orderId);
      const request = { requestId: randomUUID(), inputHash: new Uint8Array() };
      const cancel = () => store.cancelBatch([{ userId: a.userId, [name]: first[name], request }], false);
      const cancelled = await whileUsing(useRequestOf(b, { orderId, orderMark }), cancel);
      expect(cancelled.map(({ outcome }) => outcome)).toEqual(["CANCELLED"]);
      expect(await standingOf(b, orderId)).toMatchObject({ count: 1 });
    }
  });

  test("is locked for when it is known what stands of it", async () => {
    const userId = newUser();
    const [alone] = (await heldBy(userId, 1, { stackable: false })) as [Held];
    const [other] = (await heldBy(userId, 1)) as [Held];
    const orderId = randomUUID();
    expect(await whileUsing(useRequestOf(alone, { orderId }), () => lock(other, orderId))).toBe("NOT_STACKABLE");
    expect(await lock(other, "another order")).toBe("GRANTED");
  });

  test("batches of many orders, in different orders, at once: no deadlock, and each order is used by one first", async () => {
    const userIds = Array.from({ length: 20 }, newUser);
    const [first, second] = [await sameCouponFor(userIds), await sameCouponFor(userIds)];
    const results = await Promise.all([
      store.useBatch(
        first.map((held) => useRequestOf(held, { orderId: "the order" })),
        single,
      ),
      store.useBatch(
        second.reverse().map((held) => useRequestOf(held, { orderId: "the order" })),
        single,
      ),
    ]);
    const outcomes = results.flat().map(({ outcome }) => outcome);
    expect(outcomes.filter((one) => one === "USED")).toHaveLength(20);
    expect(outcomes.filter((one) => one === "STALE")).toHaveLength(20);
  });

  async function sameCouponFor(userIds: readonly string[]): Promise<Held[]> {
    const couponId = await insertCoupon(clocked.sql, openCoupon(noon, { quantity: null }));
    const helds: Held[] = [];
    for (const userId of userIds) helds.push(await hold(clocked.sql, couponId, noon, { userId }));
    return helds;
  }
});

describe("locks of one order", () => {
  test("are not for another amount than what stands of it was told", async () => {
    const [used, other] = (await heldBy(newUser(), 2)) as [Held, Held];
    const orderId = randomUUID();
    const told = useRequestOf(used, { orderId });
    const lockFor = async (minorUnits: number, currencyCode = told.orderAmount.currencyCode) => {
      const orderAmount = { currencyCode, minorUnits };
      const [result] = await store.lockBatch([lockRequestOf(other, { orderId, orderAmount })], { together: false });
      return result?.outcome === "REFUSED" ? result.reason : result?.outcome;
    };
    expect(await use(told)).toBe("USED");
    expect(await lockFor(told.orderAmount.minorUnits + 1)).toBe("ORDER_MISMATCH");
    expect(await lockFor(told.orderAmount.minorUnits, "XTS")).toBe("ORDER_MISMATCH");
    expect(await lockFor(told.orderAmount.minorUnits)).toBe("GRANTED");
  });

  test("what stands alone is not locked beside others, while their locks stand and are of that order", async () => {
    const userId = newUser();
    const [alone] = (await heldBy(userId, 1, { stackable: false })) as [Held];
    const [a, b] = (await heldBy(userId, 2)) as [Held, Held];
    expect([await lock(a, "one"), await lock(b, "one"), await lock(alone, "one")]).toEqual([
      "GRANTED",
      "GRANTED",
      "NOT_STACKABLE",
    ]);
    expect(await lock(alone, "")).toBe("GRANTED");
    const granted = ({ userCouponId }: Held) => versions.get(userCouponId) as number;
    await store.unlock(userId, [{ ...b, lockVersion: granted(b) }], Date.now() + 60_000);
    // Renewed without an order it is for the same as before.
    expect(await lock(a, "", granted(a))).toBe("GRANTED");
    expect(await lock(alone, "one", granted(alone))).toBe("NOT_STACKABLE");
    // A release that knows of no orders locks what this one has locked before.
    await clocked.sql`UPDATE user_coupons SET lock_version = lock_version + 1, lock_token = 'x' WHERE id = ${a.userCouponId}`;
    expect(await lock(alone, "one", granted(alone))).toBe("GRANTED");
    // It does not stand beside itself.
    expect(await lock(alone, "one", granted(alone))).toBe("GRANTED");
    expect(await lock(b, "one")).toBe("NOT_STACKABLE");
  });
});

test("a lock is judged by what another caller's call of the same batch holds", async () => {
  const userId = newUser();
  const [alone] = (await heldBy(userId, 1, { stackable: false })) as [Held];
  const [other] = (await heldBy(userId, 1)) as [Held];
  const [granted] = await store.lockBatch([lockRequestOf(alone, { orderId: "one" })], { together: false });
  const lockVersion = granted?.outcome === "GRANTED" ? granted.lock.version : 0;
  const results = await store.lockBatch(
    [lockRequestOf(other, { orderId: "one" }), lockRequestOf(alone, { lockVersion })],
    { together: false },
  );
  expect(results).toMatchObject([{ outcome: "REFUSED", reason: "NOT_STACKABLE" }, { outcome: "GRANTED" }]);
});

test("a lock that several calls of a batch are granted, or renew, is for the order that any of them names", async () => {
  const userId = newUser();
  const [alone] = (await heldBy(userId, 1, { stackable: false })) as [Held];
  const [other] = (await heldBy(userId, 1)) as [Held];
  const lockTwice = async (same: { token: string } | { lockVersion: number }, orderId: string) => {
    const both = [lockRequestOf(other, same), lockRequestOf(other, { ...same, orderId })];
    const results = await store.lockBatch(both, { together: false });
    const version = results[0]?.outcome === "GRANTED" ? results[0].lock.version : 0;
    expect(results).toMatchObject([{ lock: { version } }, { lock: { version } }]);
    return version;
  };
  const lockVersion = await lockTwice({ token: "of one call" }, "one");
  expect(await lock(alone, "one")).toBe("NOT_STACKABLE");
  expect(await lockTwice({ lockVersion }, "two")).toBe(lockVersion);
  expect(await lock(alone, "two")).toBe("NOT_STACKABLE");
});

describe("CancelUsage by user coupon", () => {
  const cancel = async ({ userId, userCouponId }: Held, requestId = randomUUID(), again = false) => {
    const request = { requestId, inputHash: new Uint8Array([1]) };
    const [result] = await store.cancelBatch([{ userId, userCouponId, request }], again);
    return result?.outcome === "REFUSED" ? result.reason : result?.usage.id;
  };

  test("takes the only one that stands; none and several have reasons of their own", async () => {
    const [held] = (await heldBy(newUser(), 1, { maxUses: 3 })) as [Held];
    expect(await cancel(held)).toBe("USAGE_NOT_FOUND");
    const requests = [useRequestOf(held), useRequestOf(held), useRequestOf(held)] as const;
    const requestId = randomUUID();
    expect(await use(requests[0])).toBe("USED");
    expect(await cancel({ ...held, userId: "stranger" })).toBe("USAGE_NOT_FOUND");
    expect(await cancel(held, requestId)).toBe(requests[0].usageId);
    expect(await cancel(held)).toBe("USAGE_ALREADY_CANCELLED");
    expect(await use(requests[1])).toBe("USED");
    // A repeated call is about what it was about before.
    expect(await cancel(held, requestId)).toBe(requests[0].usageId);
    expect(await use(requests[2])).toBe("USED");
    expect(await cancel(held)).toBe("SEVERAL_USAGES");
    expect(await readUserCoupon(clocked.sql, held)).toMatchObject({ useCount: 2 });
  });

  test("beside one by the usage's id in the same batch cancels once", async () => {
    const [held] = (await heldBy(newUser(), 1)) as [Held];
    const request = useRequestOf(held);
    expect(await use(request)).toBe("USED");
    const named = () => ({ userId: held.userId, request: { requestId: randomUUID(), inputHash: new Uint8Array() } });
    const results = await store.cancelBatch(
      [
        { ...named(), usageId: request.usageId },
        { ...named(), userCouponId: held.userCouponId },
      ],
      false,
    );
    expect(results.map((one) => (one.outcome === "REFUSED" ? one.reason : one.outcome))).toEqual([
      "CANCELLED",
      "USAGE_ALREADY_CANCELLED",
    ]);
    expect(await readUserCoupon(clocked.sql, held)).toMatchObject({ useCount: 0 });
  });
});
