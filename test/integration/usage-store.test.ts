import { randomUUID } from "node:crypto";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { GroupCommit } from "../../src/batching/group-commit.js";
import { Refusal, StoreUnavailable } from "../../src/domain/refusal.js";
import { noStandingUses } from "../../src/domain/usage.js";
import { userCouponStatus } from "../../src/domain/user-coupon.js";
import type { UseRequest, UseResult } from "../../src/storage/ports/usages.js";
import { PostgresUserCouponStore } from "../../src/storage/postgres/user-coupons/user-coupon-store.js";
import { PostgresUsageStore } from "../../src/storage/postgres/using/usage-store.js";
import { until } from "../support/until.js";
import {
  type ClockedDatabase,
  type CouponFacts,
  insertCoupon,
  openClockedDatabase,
  openCoupon,
} from "./clocked-database.js";
import {
  cancelOne,
  countEvents,
  expectCounted,
  type Held,
  hold,
  lockRequestOf,
  orderOf,
  readCoupon,
  readUserCoupon,
  useRequestOf,
  versionOf,
} from "./usage-world.js";
import { untilFree, untilWaiting, whileWaiting } from "./waiting.js";

const noon = new Date("2030-06-01T12:00:00.000Z");
const later = (ms: number) => new Date(noon.getTime() + ms);
const farMs = Date.now() + 3_600_000;
const single = { again: false, together: false };
const together = { again: false, together: true };

let clocked: ClockedDatabase;
let store: PostgresUsageStore;
let userCoupons: PostgresUserCouponStore;

beforeAll(async () => {
  clocked = await openClockedDatabase(noon);
  store = new PostgresUsageStore(clocked.database);
  userCoupons = new PostgresUserCouponStore(clocked.database);
});
beforeEach(() => clocked.setClock(noon));
afterAll(async () => {
  if (!clocked) return;
  await expectCounted(clocked.sql);
  await clocked.close();
});

const newCoupon = (changed: Partial<CouponFacts> = {}) =>
  insertCoupon(clocked.sql, openCoupon(noon, { quantity: null, ...changed }));
const newHeld = (couponId: string, facts: Parameters<typeof hold>[3] = {}) => hold(clocked.sql, couponId, noon, facts);
const heldOfNew = async (changed: Partial<CouponFacts> = {}, facts: Parameters<typeof hold>[3] = {}) =>
  newHeld(await newCoupon(changed), facts);
const outcomesOf = (results: readonly UseResult[]) =>
  results.map((result) => (result.outcome === "REFUSED" ? result.reason : result.outcome));
const use = async (request: UseRequest) => (await store.useBatch([request], single))[0] as UseResult;
const used = async (held: Held): Promise<string> => {
  const request = useRequestOf(held);
  expect((await use(request)).outcome).toBe("USED");
  return request.usageId;
};
const cancel = async ({ userId }: Held, usageId: string) => {
  const cancelled = await cancelOne(store, { userId, usageId, request: null });
  if (cancelled instanceof Refusal) throw new Error(cancelled.reason);
  return cancelled;
};
const statusOf = async ({ userId, userCouponId }: Held) => {
  const found = await userCoupons.get(userId, userCouponId, farMs);
  return found && userCouponStatus(found.value.userCoupon, found.value.coupon, found.now);
};

/** Whether an earlier call took a place is not told again: for all that is known, the reservation is not needed. */
function asRepeated(results: readonly UseResult[]): UseResult[] {
  return results.map((result) => (result.outcome === "USED" ? { ...result, placed: false } : result));
}

describe("one use", () => {
  test("is stored as it was asked for, counted, and on record", async () => {
    const held = await heldOfNew({ maxUses: 2 }, { maxUses: 2, claimUntil: later(5_000) });
    const request = useRequestOf(held, {
      requestId: randomUUID(),
      orderAmount: { currencyCode: "JPY", minorUnits: 10 ** 15 },
      labels: { b: "2", a: "1" },
    });
    const usage = {
      id: request.usageId,
      ...held,
      productId: "product",
      orderId: request.orderId,
      orderAmount: request.orderAmount,
      discountAmount: { currencyCode: "JPY", minorUnits: 1_000 },
      discountedBefore: 0,
      usedAt: noon,
      cancelledAt: null,
      ...{ code: null, couponName: "a coupon", couponType: null },
      labels: { a: "1", b: "2" },
      isComplete: true,
    };
    expect(await use(request)).toEqual({ outcome: "USED", usage, placed: true, exhausted: false });
    expect(await store.get(held.userId, request.usageId, farMs)).toEqual(usage);
    expect(await store.ofRequest(request.requestId, farMs)).toEqual([usage]);
    expect(await readUserCoupon(clocked.sql, held)).toMatchObject({ useCount: 1, placeCount: 1, claimUntil: null });
    expect(await readCoupon(clocked.sql, held.couponId)).toMatchObject({
      usedCount: 1,
      placeCount: 1,
      exhaustedAt: null,
    });
    expect(await countEvents(clocked.sql, held.couponId)).toEqual({ USER_COUPON_USED: 1 });
  });

  test("is decided by the clock when its locks are granted, not when it came", async () => {
    const held = await heldOfNew({}, { validUntil: later(1_000) });
    const [result] = await whileWaiting(clocked.sql, held.couponId, [() => use(useRequestOf(held))], () =>
      clocked.setClock(later(1_000)),
    );
    expect(result).toMatchObject({ value: { outcome: "REFUSED", reason: "USER_COUPON_EXPIRED" } });
  });

  test("is not made after its time, when its caller may have been told something else", async () => {
    const held = await heldOfNew({}, { maxUses: 3 });
    const patienceMs = 150;
    const untilMs = Date.now() + patienceMs;
    const late = useRequestOf(held, { untilMs, requestId: "late" });
    const patient = useRequestOf(held, { untilMs: untilMs + 60_000 });
    const [one, other] = await whileWaiting(
      clocked.sql,
      held.couponId,
      [() => use(late), () => use(patient)],
      async () => {
        // Postgres counts from when it was asked, which it was by now.
        const askedMs = Date.now();
        await until("its time is over", () => Date.now() > askedMs + patienceMs + 1);
      },
    );
    expect(one).toMatchObject({ value: { outcome: "TOO_LATE" } });
    expect(other).toMatchObject({ value: { outcome: "USED" } });
    // What was done in time is known when it is asked for again, however late.
    const [again] = await store.useBatch([{ ...patient, untilMs: Date.now() - 1 }], { again: true, together: false });
    expect(again?.outcome).toBe("USED");
    expect(await store.ofRequest("late", farMs)).toEqual([]);
    const order = orderOf([held, await heldOfNew()], { untilMs: Date.now() - 1 });
    expect(outcomesOf(await store.useBatch(order, together))).toEqual(["TOO_LATE", "TOO_LATE"]);
  });

  test("of a coupon that is edited meanwhile is STALE", async () => {
    const held = await heldOfNew();
    const edit = () => clocked.sql`UPDATE coupons SET revision = 2 WHERE id = ${held.couponId}`;
    await edit();
    expect((await use(useRequestOf(held))).outcome).toBe("STALE");
    expect((await use(useRequestOf(held, { revision: 2 }))).outcome).toBe("USED");
  });

  test("that names another coupon than its own finds nothing", async () => {
    const held = await heldOfNew();
    const other = await newCoupon();
    expect(outcomesOf([await use(useRequestOf({ ...held, couponId: other }))])).toEqual(["USER_COUPON_NOT_FOUND"]);
    expect(outcomesOf([await use(useRequestOf({ ...held, userId: "another" }))])).toEqual(["USER_COUPON_NOT_FOUND"]);
    expect(await readUserCoupon(clocked.sql, held)).toMatchObject({ useCount: 0 });
  });

  test("of an order is not locked when the usage cap has fewer places left than it needs", async () => {
    const coupon = await insertCoupon(clocked.sql, openCoupon(noon, { usageCap: 2, maxUses: 2 }));
    const [one, other, third] = [
      await hold(clocked.sql, coupon, noon, { userId: "capped" }),
      await hold(clocked.sql, coupon, noon, { userId: "capped", slot: 2 }),
      await hold(clocked.sql, coupon, noon),
    ];
    const lockBoth = () =>
      store.lockBatch(
        [lockRequestOf(one), lockRequestOf(other)].map((lock) => ({ ...lock, orderId: "both" })),
        {
          together: true,
        },
      );
    const [used] = await store.useBatch([useRequestOf(third)], { again: false, together: false });
    expect(used?.outcome).toBe("USED");
    expect(await lockBoth()).toEqual([{ outcome: "CONSENT" }, { outcome: "REFUSED", reason: "USAGE_CAP_REACHED" }]);
    expect((await store.lockBatch([lockRequestOf(other)], { together: true }))[0]?.outcome).toBe("GRANTED");
  });

  test("spends the lock that it names", async () => {
    const held = await heldOfNew({ maxUses: 3 }, { maxUses: 3 });
    const [lock] = await store.lockBatch([lockRequestOf(held)], { together: false });
    const lockVersion = versionOf(lock);
    expect(lock).toMatchObject({ outcome: "GRANTED", lock: { until: later(300_000) } });
    const requests = [useRequestOf(held), useRequestOf(held, { lockVersion }), useRequestOf(held, { lockVersion })];
    expect(outcomesOf(await store.useBatch(requests, single))).toEqual(["LOCKED", "USED", "LOCK_LOST"]);
    expect(await readUserCoupon(clocked.sql, held)).toMatchObject({ lockedUntil: null, lockVersion, useCount: 1 });
    expect((await use(useRequestOf(held))).outcome).toBe("USED");
  });
});

describe("a batch", () => {
  test("uses one user coupon as often as it may be, and not once more", async () => {
    const held = await heldOfNew({ maxUses: 3 }, { maxUses: 3 });
    const other = await newHeld(held.couponId);
    const requests = [held, held, other, held, held, other].map((one) => useRequestOf(one));
    expect(outcomesOf(await store.useBatch(requests, single))).toEqual([
      "USED",
      "USED",
      "USED",
      "USED",
      "ALREADY_USED",
      "ALREADY_USED",
    ]);
    expect(await readUserCoupon(clocked.sql, held)).toMatchObject({ useCount: 3, placeCount: 3 });
    expect(await readCoupon(clocked.sql, held.couponId)).toMatchObject({ usedCount: 4, placeCount: 4 });
  });

  test("that is repeated, for its answer was lost, changes nothing and gets the same", async () => {
    const held = await heldOfNew({ maxUses: 2 }, { maxUses: 2 });
    const requests = [useRequestOf(held, { requestId: randomUUID() }), useRequestOf(held), useRequestOf(held)];
    const first = await store.useBatch(requests, single);
    expect(outcomesOf(first)).toEqual(["USED", "USED", "ALREADY_USED"]);
    await clocked.setClock(later(9_000));
    expect(await store.useBatch(requests, { again: true, together: false })).toEqual(asRepeated(first));
    expect(await readCoupon(clocked.sql, held.couponId)).toMatchObject({ usedCount: 2 });
  });

  test("with a row that Postgres chokes on uses all the others", async () => {
    const couponId = await newCoupon();
    const helds = await Promise.all(Array.from({ length: 7 }, () => newHeld(couponId)));
    const queue = new GroupCommit<UseRequest, UseResult>({
      commit: (requests, again) => store.useBatch(requests, { again, together: false }),
      afterCommit: async () => {},
      onAfterCommitError: () => {},
      keysOf: () => [],
      maxBatchSize: 100,
      maxBatches: 1,
      sideBatchSize: 1,
      maxWaiting: 100,
    });
    // More off than there is: past the table's own guard.
    const requests = helds.map((held, n) => useRequestOf(held, n === 3 ? { discountAmount: 10_001 } : {}));
    const results = await Promise.allSettled(requests.map((request) => queue.submit(request, farMs)));
    expect(results.map((one) => (one.status === "fulfilled" ? one.value.outcome : one.status))).toEqual(
      requests.map((_, n) => (n === 3 ? "rejected" : "USED")),
    );
    expect((results[3] as PromiseRejectedResult).reason).not.toBeInstanceOf(StoreUnavailable);
    expect(await readCoupon(clocked.sql, couponId)).toMatchObject({ usedCount: 6 });
  });

  test("that is empty is fine", async () => {
    expect(await store.useBatch([], single)).toEqual([]);
  });
});

describe("the usage cap", () => {
  test("keeps no place for what is refused for another reason in the same batch", async () => {
    const couponId = await newCoupon({ usageCap: 1 });
    const [over, held] = [await newHeld(couponId, { validUntil: noon }), await newHeld(couponId)];
    const results = await store.useBatch([useRequestOf(over), useRequestOf(held)], single);
    expect(outcomesOf(results)).toEqual(["USER_COUPON_EXPIRED", "USED"]);
  });

  test("is reached within a batch: exactly so many are used, and it is on record once", async () => {
    const couponId = await newCoupon({ usageCap: 3 });
    const helds = await Promise.all(Array.from({ length: 5 }, () => newHeld(couponId)));
    const results = await store.useBatch(
      helds.map((held) => useRequestOf(held)),
      single,
    );
    expect(outcomesOf(results)).toEqual(["USED", "USED", "USED", "USAGE_CAP_REACHED", "USAGE_CAP_REACHED"]);
    expect(results.slice(0, 3)).toMatchObject([{ exhausted: true }, { exhausted: true }, { exhausted: true }]);
    expect(await readCoupon(clocked.sql, couponId)).toMatchObject({ usedCount: 3, placeCount: 3, exhaustedAt: noon });
    expect(await countEvents(clocked.sql, couponId)).toEqual({ USER_COUPON_USED: 3, COUPON_EXHAUSTED: 1 });
    expect(await Promise.all(helds.map(statusOf))).toEqual(["USED", "USED", "USED", "REVOKED", "REVOKED"]);
  });

  test("keeps the place of a cancelled use for its own user coupon, and does not wake the others", async () => {
    const couponId = await newCoupon({ usageCap: 2 });
    const [a, b, c] = [await newHeld(couponId), await newHeld(couponId), await newHeld(couponId)];
    const usageId = await used(a);
    await used(b);
    await clocked.setClock(later(1_000));
    expect(await cancel(a, usageId)).toMatchObject({ freed: false, usage: { cancelledAt: later(1_000) } });
    expect(await readCoupon(clocked.sql, couponId)).toMatchObject({ usedCount: 1, placeCount: 2, exhaustedAt: noon });
    expect(outcomesOf([await use(useRequestOf(c)), await use(useRequestOf(a))])).toEqual(["USAGE_CAP_REACHED", "USED"]);
    expect(await readCoupon(clocked.sql, couponId)).toMatchObject({ usedCount: 2, placeCount: 2, exhaustedAt: noon });
    expect((await countEvents(clocked.sql, couponId)).COUPON_EXHAUSTED).toBe(1);
  });

  test("is reached for good: a place that is freed afterwards is nobody's, also in a batch that begins with a kept one", async () => {
    const couponId = await newCoupon({ usageCap: 2, maxUses: 2 });
    const [kept, gone] = [await newHeld(couponId, { maxUses: 2 }), await newHeld(couponId, { maxUses: 2 })];
    const [ofKept, ofGone] = [await used(kept), await used(gone)];
    await cancel(kept, ofKept);
    const { userId, userCouponId } = gone;
    const deletion = { userId, userCouponId, restock: true, deleteUsed: true, request: null };
    expect(await userCoupons.delete(deletion, async () => {}, farMs)).toEqual({ restocked: false, replayed: false });
    expect(await cancel(gone, ofGone)).toMatchObject({ freed: true });
    expect(await readCoupon(clocked.sql, couponId)).toMatchObject({ usedCount: 0, placeCount: 1, exhaustedAt: noon });
    await clocked.setClock(later(1_000));
    expect(outcomesOf(await store.useBatch([useRequestOf(kept), useRequestOf(kept)], single))).toEqual([
      "USED",
      "USAGE_CAP_REACHED",
    ]);
    expect(await readCoupon(clocked.sql, couponId)).toMatchObject({ usedCount: 1, placeCount: 1, exhaustedAt: noon });
    expect((await countEvents(clocked.sql, couponId)).COUPON_EXHAUSTED).toBe(1);
  });

  test("places that cancelled uses have kept go back when their user coupon is deleted", async () => {
    const couponId = await newCoupon({ usageCap: 3 });
    const [a, b] = [await newHeld(couponId), await newHeld(couponId)];
    await cancel(a, await used(a));
    let told: unknown;
    const deletion = {
      userId: a.userId,
      userCouponId: a.userCouponId,
      restock: true,
      deleteUsed: false,
      request: null,
    };
    const given = async (one: unknown) => {
      told = one;
    };
    expect(await userCoupons.delete(deletion, given, farMs)).toEqual({ restocked: true, replayed: false });
    expect(told).toEqual({ ...a, requestId: "", restocked: true, freed: true, givenBackNo: 1 });
    expect(await readCoupon(clocked.sql, couponId)).toMatchObject({ issuedCount: 1, usedCount: 0, placeCount: 0 });
    await used(b);
  });

  test("is not passed by writers at once", async () => {
    const couponId = await newCoupon({ usageCap: 7 });
    const helds = await Promise.all(Array.from({ length: 20 }, () => newHeld(couponId)));
    const use = (held: Held) => untilFree(() => store.useBatch([useRequestOf(held)], single));
    const results = (await Promise.all(helds.map(use))).flat();
    expect(outcomesOf(results).filter((outcome) => outcome === "USED").length).toBe(7);
    expect(results.filter((one) => one.outcome === "USED" && one.exhausted).length).toBe(1);
    expect(await countEvents(clocked.sql, couponId)).toEqual({ USER_COUPON_USED: 7, COUPON_EXHAUSTED: 1 });
  });

  test("and the sum of uses are guarded by the table itself", async () => {
    const couponId = await newCoupon({ usageCap: 1 });
    const held = await newHeld(couponId);
    await used(held);
    const { sql } = clocked;
    const refused = expect.objectContaining({ code: "23514" });
    await expect(sql`UPDATE coupons SET place_count = 2 WHERE id = ${couponId}`).rejects.toEqual(refused);
    await expect(sql`UPDATE coupons SET used_count = 2 WHERE id = ${couponId}`).rejects.toEqual(refused);
    await expect(sql`UPDATE coupons SET used_count = -1 WHERE id = ${couponId}`).rejects.toEqual(refused);
    const { userCouponId: id } = held;
    await expect(sql`UPDATE user_coupons SET place_count = 2 WHERE id = ${id}`).rejects.toEqual(refused);
    await expect(sql`UPDATE user_coupons SET use_count = 2 WHERE id = ${id}`).rejects.toEqual(refused);
  });
});

describe("an order of several", () => {
  test("is used as a whole", async () => {
    const helds = [await heldOfNew(), await heldOfNew(), await heldOfNew()];
    const requests = orderOf(helds, { requestId: randomUUID() });
    expect(outcomesOf(await store.useBatch(requests, together))).toEqual(["USED", "USED", "USED"]);
    expect((await store.ofRequest(requests[0]?.requestId as string, farMs)).map(({ id }) => id)).toEqual(
      requests.map(({ usageId }) => usageId),
    );
  });

  test("is not used at all if there is something against one of them", async () => {
    const helds = [await heldOfNew(), await heldOfNew({}, { validUntil: noon }), await heldOfNew()];
    expect(outcomesOf(await store.useBatch(orderOf(helds), together))).toEqual([
      "CONSENT",
      "USER_COUPON_EXPIRED",
      "CONSENT",
    ]);
    for (const held of helds) {
      expect(await readUserCoupon(clocked.sql, held)).toMatchObject({ useCount: 0, placeCount: 0 });
      expect(await countEvents(clocked.sql, held.couponId)).toEqual({});
    }
  });

  test("is not used at all if one of them was edited meanwhile", async () => {
    const helds = [await heldOfNew(), await heldOfNew(), await heldOfNew()] as const;
    await clocked.sql`UPDATE coupons SET revision = 2 WHERE id = ${helds[1].couponId}`;
    expect(outcomesOf(await store.useBatch(orderOf(helds), together))).toEqual(["CONSENT", "STALE", "CONSENT"]);
    for (const held of helds) expect(await readUserCoupon(clocked.sql, held)).toMatchObject({ useCount: 0 });
  });

  test("needs places under the cap for all that are of one coupon", async () => {
    const couponId = await newCoupon({ usageCap: 2 });
    const helds = [await newHeld(couponId), await newHeld(couponId), await newHeld(couponId)];
    expect(outcomesOf(await store.useBatch(orderOf(helds), together))).toEqual([
      "CONSENT",
      "CONSENT",
      "USAGE_CAP_REACHED",
    ]);
    expect(outcomesOf(await store.useBatch(orderOf(helds.slice(0, 2)), together))).toEqual(["USED", "USED"]);
  });

  test("that is repeated after its answer was lost is used once", async () => {
    const requests = orderOf([await heldOfNew(), await heldOfNew()], { requestId: randomUUID() });
    const first = await store.useBatch(requests, together);
    expect(await store.useBatch(requests, { again: true, together: true })).toEqual(asRepeated(first));
  });

  test.each([
    { sameOrder: true, what: "the same order" },
    { sameOrder: false, what: "another, longer one" },
  ])(
    "while $what with its request id is being used: one of them whole, of the other one nothing",
    async ({ sameOrder }) => {
      const requestId = randomUUID();
      const [a, b] = [await heldOfNew(), await heldOfNew()];
      const others = sameOrder ? [a, b] : [await heldOfNew(), await heldOfNew(), await heldOfNew()];
      const [first, second] = [orderOf([a, b], { requestId }), orderOf(others, { requestId })];
      let running: Promise<UseResult[]> | undefined;
      await clocked.sql.begin(async (tx) => {
        // As useBatch() does it, but not committed before the other one has come to wait for it.
        const requests = first.map((request) => ({
          id: request.usageId,
          user_coupon_id: request.userCouponId,
          coupon_id: request.couponId,
          user_id: request.userId,
          lock_version: 0,
          revision: 1,
          product_id: "product",
          order_id: "order",
          currency_code: "USD",
          order_amount: 10_000,
          discount_amount: 1_000,
          discounted_before: 0,
          order_mark: "",
          request_id: requestId,
          item: request.item,
        }));
        const couponIds = first.map(({ couponId }) => couponId);
        const rows =
          await tx`SELECT outcome FROM use_user_coupons(${couponIds}::uuid[], ${JSON.stringify(requests)}::text::json, true, false)`;
        expect(rows.map(({ outcome }) => outcome)).toEqual(["USED", "USED"]);
        running = store.useBatch(second, together);
        running.catch(() => {});
        await untilWaiting(clocked.sql, 1);
      });
      // In part is an error, after which the caller's retry finds the other order.
      if (!sameOrder) await expect(running).rejects.toBeInstanceOf(StoreUnavailable);
      const again = sameOrder ? await running : await store.useBatch(second, { again: true, together: true });
      expect(outcomesOf(again as UseResult[])).toEqual(
        sameOrder ? ["REPLAYED", "REPLAYED"] : ["REPLAYED", "REPLAYED", "CONSENT"],
      );
      expect((await store.ofRequest(requestId, farMs)).map(({ id }) => id)).toEqual(
        first.map(({ usageId }) => usageId),
      );
      if (!sameOrder)
        for (const held of others) expect(await readUserCoupon(clocked.sql, held)).toMatchObject({ useCount: 0 });
    },
  );
});

describe("request ids of single uses", () => {
  test("the same one is used once, also after it was cancelled", async () => {
    const held = await heldOfNew({ maxUses: 3 }, { maxUses: 3 });
    const requestId = randomUUID();
    const request = useRequestOf(held, { requestId });
    expect((await use(request)).outcome).toBe("USED");
    expect((await use(useRequestOf(held, { requestId }))).outcome).toBe("REPLAYED");
    await cancel(held, request.usageId);
    expect((await use(useRequestOf(held, { requestId }))).outcome).toBe("REPLAYED");
    expect(await readUserCoupon(clocked.sql, held)).toMatchObject({ useCount: 0, placeCount: 1 });
  });

  test("two connections use one at once, for user coupons of two coupons: one is used, the other one is told so", async () => {
    for (let round = 0; round < 5; round++) {
      const helds = [await heldOfNew(), await heldOfNew()];
      const requestId = randomUUID();
      const bystanders = await Promise.all(helds.map((held) => newHeld(held.couponId)));
      const batches = helds.map((held, n) => [useRequestOf(held, { requestId }), useRequestOf(bystanders[n] as Held)]);
      const results = await Promise.all(batches.map((requests) => store.useBatch(requests, single)));
      expect(results.map(([first]) => first?.outcome).sort()).toEqual(["REPLAYED", "USED"]);
      expect(results.map(([, second]) => second?.outcome)).toEqual(["USED", "USED"]);
      expect((await store.ofRequest(requestId, farMs)).length).toBe(1);
    }
  });

  test("who waits for the same one in another call's transaction takes nothing from the others of the batch: a place is told of, and the last one too", async () => {
    const [capped, held] = [await heldOfNew({ usageCap: 1 }), await heldOfNew()];
    const requestId = randomUUID();
    const batch = [useRequestOf(capped), useRequestOf(held, { requestId })];
    let running: Promise<UseResult[]> | undefined;
    await clocked.sql.begin(async (tx) => {
      // For another user coupon, so that it is the request id that is waited for.
      const first = await heldOfNew();
      const request = { id: randomUUID(), user_coupon_id: first.userCouponId, coupon_id: first.couponId };
      const ofOrder = { user_id: first.userId, order_id: "order", product_id: "product", currency_code: "USD" };
      const amounts = { order_amount: 10_000, discount_amount: 1_000, discounted_before: 0, order_mark: "" };
      const item = { ...request, ...ofOrder, ...amounts, lock_version: 0, revision: 1, request_id: requestId, item: 0 };
      const rows =
        await tx`SELECT outcome FROM use_user_coupons(${[first.couponId]}::uuid[], ${JSON.stringify([item])}::text::json, false, false)`;
      expect(rows.map(({ outcome }) => outcome)).toEqual(["USED"]);
      running = store.useBatch(batch, single);
      running.catch(() => {});
      await untilWaiting(clocked.sql, 1);
    });
    expect(await running).toMatchObject([{ outcome: "USED", placed: true, exhausted: true }, { outcome: "REPLAYED" }]);
    expect(await readCoupon(clocked.sql, capped.couponId)).toMatchObject({ placeCount: 1, exhaustedAt: noon });
  });

  test("two connections that wait for the same coupon with one: once", async () => {
    const held = await heldOfNew({ maxUses: 5 }, { maxUses: 5 });
    const requestId = randomUUID();
    const requests = [1, 2].map(() => useRequestOf(held, { requestId }));
    const results = await whileWaiting(
      clocked.sql,
      held.couponId,
      requests.map((request) => () => use(request)),
      async () => {},
    );
    expect(results.map((one) => one.status === "fulfilled" && one.value.outcome).sort()).toEqual(["REPLAYED", "USED"]);
    expect(await readUserCoupon(clocked.sql, held)).toMatchObject({ useCount: 1 });
  });
});

describe("reading", () => {
  test("usages are found by user, coupon, product and order, the newest first, page by page", async () => {
    const held = await heldOfNew({ maxUses: 9 }, { maxUses: 9 });
    // Ids are in the order of time; here by hand.
    const ids = Array.from({ length: 5 }, (_, n) => `0000000${n}-0000-7000-8000-${randomUUID().slice(-12)}`);
    const [orderId, productId] = [randomUUID(), randomUUID()];
    for (const [n, usageId] of ids.entries()) {
      const order = { ...held, orderId: n < 3 ? orderId : "other" };
      const orderMark = (await store.readChosen([order]))[0]?.standing.mark ?? "";
      expect((await use(useRequestOf(held, { usageId, orderId: order.orderId, orderMark, productId }))).outcome).toBe(
        "USED",
      );
    }
    await cancel(held, ids[1] as string);
    const none = { userId: "", couponId: "", productId: "", orderId: "", showCancelled: true } as const;
    const list = async (filter: object, size = 50, before: string | null = null) => {
      const { rows, next } = await store.list({ ...none, ...filter } as never, { size, before }, farMs);
      return { ids: rows.map(({ id }) => ids.indexOf(id)), hasMore: next !== null };
    };
    expect(await list({ userId: held.userId })).toEqual({ ids: [4, 3, 2, 1, 0], hasMore: false });
    expect(await list({ couponId: held.couponId, showCancelled: false })).toEqual({
      ids: [4, 3, 2, 0],
      hasMore: false,
    });
    expect(await list({ orderId })).toEqual({ ids: [2, 1, 0], hasMore: false });
    expect(await list({ productId, orderId: "other" })).toEqual({ ids: [4, 3], hasMore: false });
    // Whichever filter narrows the list, the others count as well.
    for (const other of [{ userId: "stranger" }, { productId: "other" }, { couponId: randomUUID() }]) {
      for (const narrowest of [{ orderId }, { userId: held.userId }, { productId }])
        expect(await list({ ...narrowest, ...other })).toEqual({ ids: [], hasMore: false });
    }
    expect(await list({ productId }, 2)).toEqual({ ids: [4, 3], hasMore: true });
    expect(await list({ productId }, 2, ids[1] as string)).toEqual({ ids: [0], hasMore: false });
    expect(
      (await store.ofUserCoupons(held.userId, [held.userCouponId], 2, farMs)).map(({ id }) => ids.indexOf(id)),
    ).toEqual([4, 3]);
    expect(await store.ofUserCoupons("stranger", [held.userCouponId], 2, farMs)).toEqual([]);
    expect(await store.findUsed([ids[0] as string, randomUUID()])).toEqual(new Set([ids[0]]));
    expect(await store.get("stranger", ids[0] as string, farMs)).toBeNull();
  });

  test("what an order chooses is read with its coupon, and somebody else's is not", async () => {
    const held = await heldOfNew(
      { exhaustedAt: later(-5), usageCap: 9 },
      { lockedUntil: later(5), lockVersion: 4, lockToken: "t" },
    );
    const choice = { ...held, orderId: "" };
    const requests = [choice, { ...choice, userId: "stranger" }, { ...choice, userCouponId: randomUUID() }, choice];
    const [own, strangers, unknown, twice] = await store.readChosen(requests);
    expect(own).toMatchObject({
      now: noon,
      value: {
        userCoupon: { id: held.userCouponId, lockedUntil: later(5) },
        coupon: { id: held.couponId, usageCap: 9, exhaustedAt: later(-5) },
        lockVersion: 4,
        lockToken: "t",
      },
    });
    expect([strangers, unknown]).toEqual([
      { now: noon, value: null, standing: noStandingUses },
      { now: noon, value: null, standing: noStandingUses },
    ]);
    expect(twice).toEqual(own);
    // The definition is remembered by revision; exhaustion is read each time.
    await clocked.sql`UPDATE coupons SET exhausted_at = NULL WHERE id = ${held.couponId}`;
    expect((await store.readChosen([choice]))[0]?.value?.coupon.exhaustedAt).toBeNull();
    await clocked.sql`UPDATE coupons SET exhausted_at = NULL, usage_cap = 12, revision = 2 WHERE id = ${held.couponId}`;
    expect((await store.readChosen([choice]))[0]?.value?.coupon).toMatchObject({ usageCap: 12, revision: 2 });
  });
});
