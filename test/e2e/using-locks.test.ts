import { randomUUID } from "node:crypto";
import { durationFromMs, type Timestamp, timestampFromMs, timestampMs } from "@bufbuild/protobuf/wkt";
import { afterAll, describe, expect, test } from "vitest";
import { CatalogService } from "../../gen/coupon/v1/catalog_service_pb.js";
import type { CouponLock } from "../../gen/coupon/v1/usage_service_pb.js";
import { UserCouponStatus } from "../../gen/coupon/v1/user_coupon_pb.js";
import { UserCouponService } from "../../gen/coupon/v1/user_coupon_service_pb.js";
import { type GrpcClient, letIn } from "../support/clients.js";
import { twoReplicas } from "../support/service.js";
import { until } from "../support/until.js";
import { cancel, lock, lockOne, quote, read, storedOf, unlock, usd, use, useOne } from "./checkout.js";
import { type Answer, answerOf } from "./front-ends.js";
import { type CouponInit, createSample, issued, untilPassed } from "./samples.js";

const { sql, clients } = await twoReplicas(afterAll);
const [here, there] = clients;

const clientOf = (index: number): GrpcClient => (index % 2 === 0 ? here : there);
const ms = (time: Timestamp | undefined) => timestampMs(time as Timestamp);

async function held(fields: CouponInit = {}): Promise<{ id: string; couponId: string }> {
  const coupon = await createSample(here, fields);
  return await issued(here, coupon.id, "anna");
}

const refusal = (call: Promise<unknown>): Promise<string | undefined> => answerOf(call).then(({ reason }) => reason);
/** Longer than the calls take that a lock of this kind must outlast. */
const short = { lockDuration: durationFromMs(3_000) };

const setLockDuration = (couponId: string, durationMs: number) =>
  here.call(CatalogService.method.updateCoupon, {
    coupon: { id: couponId, lockDuration: durationFromMs(durationMs) },
    updateMask: { paths: ["lock_duration"] },
  });

/** RetryInfo says when a lock that ends at that moment has run out, counted from some moment of a call that was sent then. */
function expectRetryAt({ retryDelayMs }: Answer, sentAtMs: number, endMs: number): void {
  expect(retryDelayMs).toBeGreaterThan(endMs - Date.now() - 50);
  expect(retryDelayMs).toBeLessThan(endMs - sentAtMs + 50);
}

describe("a lock", () => {
  test("holds for the coupon's lock duration, 5 minutes unless that is set, by the database's clock", async () => {
    for (const [fields, durationMs] of [
      [{}, 300_000],
      [{ lockDuration: durationFromMs(90_500) }, 90_500],
    ] as const) {
      const { id } = await held(fields);
      const before = Date.now();
      const { userCouponId, lockVersion, expireTime } = await lockOne(here, { userId: "anna", coupons: [id] });
      expect(userCouponId).toBe(id);
      expect(lockVersion).toBeGreaterThan(0n);
      expect(ms(expireTime)).toBeGreaterThanOrEqual(before + durationMs);
      expect(ms(expireTime)).toBeLessThanOrEqual(Date.now() + durationMs);
      const userCoupon = await read(there, "anna", id);
      expect(userCoupon.status).toBe(UserCouponStatus.LOCKED);
      expect(userCoupon.lockExpireTime).toEqual(expireTime);
    }
  });

  test("never outlasts the user coupon, its coupon or its claim window", async () => {
    const endMs = Date.now() + 60_000;
    const cases: [CouponInit, "expireTime" | "claimExpireTime"][] = [
      [{ validityAfterIssue: durationFromMs(60_000) }, "expireTime"],
      [{ expireTime: timestampFromMs(endMs) }, "expireTime"],
      [{ claimWindow: durationFromMs(60_000) }, "claimExpireTime"],
    ];
    for (const [fields, end] of cases) {
      const { id } = await held(fields);
      const { expireTime } = await lockOne(there, { userId: "anna", coupons: [id] });
      expect(expireTime).toEqual((await read(here, "anna", id))[end]);
    }
  });

  test("turns others away until its end, and says when that is", async () => {
    const { id } = await held({ lockDuration: durationFromMs(40_000) });
    const order = { userId: "anna", coupons: [id] };
    const { expireTime } = await lockOne(here, order);
    for (const call of [use, lock]) {
      const sentAtMs = Date.now();
      const answer = await answerOf(call(there, { ...order, requestId: randomUUID() }));
      expect([answer.reason, answer.preconditions]).toEqual(["LOCKED", ["coupons[0] LOCKED"]]);
      expectRetryAt(answer, sentAtMs, ms(expireTime));
    }
  });

  test("of two, the retry is worth it when the later one has ended, and only if locks are all there is", async () => {
    const stackable = { stackable: true };
    const [one, other] = await Promise.all([
      held({ ...stackable, lockDuration: durationFromMs(20_000) }),
      held({ ...stackable, lockDuration: durationFromMs(50_000) }),
    ]);
    await lock(here, { userId: "anna", coupons: [one.id] });
    const { expireTime } = await lockOne(here, { userId: "anna", coupons: [other.id] });
    const sentAtMs = Date.now();
    const both = await answerOf(use(there, { userId: "anna", coupons: [other.id, one.id] }));
    expect(both.preconditions).toEqual(["coupons[0] LOCKED", "coupons[1] LOCKED"]);
    expectRetryAt(both, sentAtMs, ms(expireTime));
    const third = await held({ ...stackable, discount: { kind: { case: "fixedAmount", value: usd(1, "EUR") } } });
    const mixed = await answerOf(use(there, { userId: "anna", coupons: [one.id, third.id] }));
    expect(mixed.preconditions).toEqual(["coupons[0] LOCKED", "coupons[1] CURRENCY_MISMATCH"]);
    expect(mixed.retryDelayMs).toBeUndefined();
  });

  test("falls away by itself; the next one has a higher version, and the first holder can do no harm", async () => {
    const { id, couponId } = await held(short);
    const order = { userId: "anna", coupons: [id] };
    const first = await lockOne(here, order);
    await untilPassed(ms(first.expireTime));
    expect((await read(there, "anna", id)).status).toBe(UserCouponStatus.READY);
    const late = { userId: "anna", coupons: [{ id, lockVersion: first.lockVersion }] };
    for (const call of [use, lock]) expect(await refusal(call(there, late))).toBe("LOCK_LOST");
    await setLockDuration(couponId, 60_000);
    const second = await lockOne(there, order);
    expect(second.lockVersion).toBeGreaterThan(first.lockVersion);
    const before = await storedOf(sql, [couponId]);
    for (const call of [use, lock]) expect(await refusal(call(here, late))).toBe("LOCK_LOST");
    expect(await unlock(here, "anna", late.coupons)).toEqual([]);
    expect(await storedOf(sql, [couponId])).toEqual(before);
    await use(here, { userId: "anna", coupons: [{ id, lockVersion: second.lockVersion }] });
  });

  test("is renewed by its version, which it keeps", async () => {
    const { id, couponId } = await held();
    const order = { userId: "anna", coupons: [id] };
    const first = await lockOne(here, order);
    await untilPassed(Date.now() + 5);
    const renewal = { userId: "anna", coupons: [{ id, lockVersion: first.lockVersion }] };
    const renewed = await lockOne(there, renewal);
    expect(renewed.lockVersion).toBe(first.lockVersion);
    expect(ms(renewed.expireTime)).toBeGreaterThan(ms(first.expireTime));
    // The new duration of an edited coupon holds from the next renewal on.
    await setLockDuration(couponId, 60_000);
    const shorter = await lockOne(here, renewal);
    expect(ms(shorter.expireTime)).toBeLessThan(ms(first.expireTime));
    await use(there, renewal);
  });

  test("that is asked for again with the same request id is the same lock, while it stands", async () => {
    const { id } = await held(short);
    const order = { userId: "anna", coupons: [id], requestId: randomUUID() };
    const first = await lockOne(here, order);
    const again = await lockOne(there, order);
    expect(again.lockVersion).toBe(first.lockVersion);
    expect(await refusal(lock(there, { ...order, requestId: randomUUID() }))).toBe("LOCKED");
    expect(await refusal(lock(there, { ...order, requestId: "" }))).toBe("LOCKED");
    await untilPassed(ms((await read(here, "anna", id)).lockExpireTime ?? again.expireTime));
    expect((await lockOne(here, order)).lockVersion).toBeGreaterThan(first.lockVersion);
  });

  test.for([1, 3])("of %i user coupons, 20 times at once with one request id, is one lock", async (count) => {
    const holdings = await Promise.all(Array.from({ length: count }, () => held({ stackable: true })));
    const order = { userId: "anna", coupons: holdings.map(({ id }) => id), requestId: randomUUID() };
    const answers = await Promise.all(
      Array.from({ length: 20 }, (_, index) => letIn(() => lock(clientOf(index), order))),
    );
    const versionsOf = (locks: readonly CouponLock[]) => locks.map(({ lockVersion }) => lockVersion);
    const [first = []] = answers.map(versionsOf);
    expect(new Set(first).size).toBe(count);
    expect(answers.map(versionsOf)).toEqual(Array(20).fill(first));
  });

  test("is granted to one of 20 who ask at once; the others are told when to come back", async () => {
    const { id } = await held({ lockDuration: durationFromMs(40_000) });
    const sentAtMs = Date.now();
    const answers = await Promise.all(
      Array.from({ length: 20 }, (_, index) =>
        answerOf(letIn(() => lock(clientOf(index), { userId: "anna", coupons: [id] }))),
      ),
    );
    expect(answers.filter(({ code }) => code === "OK")).toHaveLength(1);
    const refused = answers.filter(({ code }) => code !== "OK");
    for (const { reason, preconditions } of refused) {
      expect([reason, preconditions]).toEqual(["LOCKED", ["coupons[0] LOCKED"]]);
    }
    const endMs = ms((await read(here, "anna", id)).lockExpireTime);
    for (const answer of refused) expectRetryAt(answer, sentAtMs, endMs);
  });

  test("does not need the order's amount, and then does not check what depends on it", async () => {
    const { id } = await held({
      discount: {
        kind: { case: "percentageBasisPoints", value: 100 },
        minimumOrderAmount: usd(5_000, "EUR"),
      },
    });
    const order = { userId: "anna", coupons: [id] };
    expect(await refusal(lock(here, { ...order, amount: usd(1, "EUR") }))).toBe("MINIMUM_ORDER_NOT_REACHED");
    expect(await refusal(lock(here, order))).toBe("CURRENCY_MISMATCH");
    const { lockVersion } = await lockOne(here, { ...order, amount: null });
    const locked = { userId: "anna", coupons: [{ id, lockVersion }] };
    expect(await refusal(use(there, locked))).toBe("CURRENCY_MISMATCH");
    await use(there, { ...locked, amount: usd(5_000, "EUR") });
  });

  test("is all or none for several user coupons, in the order of the request", async () => {
    const [one, other, third] = await Promise.all([0, 1, 2].map(() => held({ stackable: true })));
    await lock(here, { userId: "anna", coupons: [third!.id] });
    const before = await storedOf(sql, [one!.couponId, other!.couponId]);
    const answer = await answerOf(lock(there, { userId: "anna", coupons: [one!.id, third!.id, other!.id] }));
    expect([answer.reason, answer.preconditions]).toEqual(["LOCKED", ["coupons[1] LOCKED"]]);
    expect(await storedOf(sql, [one!.couponId, other!.couponId])).toEqual(before);
    const locks = await lock(there, { userId: "anna", coupons: [other!.id.toUpperCase(), one!.id] });
    expect(locks.map(({ userCouponId }) => userCouponId)).toEqual([other!.id, one!.id]);
  });
});

describe("a use under a lock", () => {
  test("names its version, ends it, and can be repeated", async () => {
    const { id } = await held({ maxUses: 2 });
    const { lockVersion } = await lockOne(here, { userId: "anna", coupons: [id] });
    const order = { userId: "anna", coupons: [{ id, lockVersion }], orderId: "o", requestId: randomUUID() };
    expect((await quote(there, order)).usable).toBe(true);
    const first = await use(there, order);
    const userCoupon = await read(here, "anna", id);
    expect(userCoupon).toMatchObject({ status: UserCouponStatus.READY, useCount: 1 });
    expect(userCoupon.lockExpireTime).toBeUndefined();
    expect(await use(here, order)).toEqual({ ...first, replayed: true });
    expect(await refusal(use(here, { ...order, requestId: "" }))).toBe("LOCK_LOST");
    expect(await refusal(lock(here, order))).toBe("LOCK_LOST");
    await useOne(here, { userId: "anna", coupons: [id] });
  });

  test("is one use, however many ask at once with the same version", async () => {
    const { id, couponId } = await held({ maxUses: 10 });
    const { lockVersion } = await lockOne(here, { userId: "anna", coupons: [id] });
    const answers = await Promise.all(
      Array.from({ length: 20 }, (_, index) =>
        answerOf(letIn(() => use(clientOf(index), { userId: "anna", coupons: [{ id, lockVersion }] }))),
      ),
    );
    const outcomes = answers.map(({ code, reason }) => reason ?? code).sort();
    expect(outcomes).toEqual([...Array(19).fill("LOCK_LOST"), "OK"]);
    const rows = await sql`SELECT id FROM usages WHERE coupon_id = ${couponId}`;
    expect(rows).toHaveLength(1);
  });

  test("that waits in Postgres until the lock has ended is refused, and so it is for each other end", async () => {
    // Longer than the uses need to come as far as to the lock.
    const lastingMs = 3_000;
    const lasting = durationFromMs(lastingMs);
    const cases: [string, CouponInit][] = [
      ["LOCK_LOST", { lockDuration: lasting }],
      ["USER_COUPON_EXPIRED", { validityAfterIssue: lasting }],
      ["USER_COUPON_RELEASED", { claimWindow: lasting }],
    ];
    const holdings = await Promise.all(cases.map(([, fields]) => held(fields)));
    const { lockVersion } = await lockOne(here, { userId: "anna", coupons: [holdings[0]!.id] });
    const issuedMs = Date.now();
    let calls: Promise<string | undefined>[] = [];
    await sql.begin(async (tx) => {
      // Whoever holds the coupons' rows keeps the uses waiting.
      await tx`SELECT FROM coupons WHERE id = ANY (${holdings.map(({ couponId }) => couponId)}::uuid[]) FOR UPDATE`;
      calls = holdings.map(({ id }, index) =>
        refusal(use(there, { userId: "anna", coupons: [index === 0 ? { id, lockVersion } : id] })),
      );
      await until("they wait", async () => {
        const rows = await sql`SELECT FROM pg_stat_activity WHERE datname = current_database()
          AND wait_event_type = 'Lock' AND query LIKE '%use_user_coupons%'`;
        return rows.length > 0;
      });
      await untilPassed(issuedMs + lastingMs + 50);
    });
    expect(await Promise.all(calls)).toEqual(cases.map(([reason]) => reason));
    const rows =
      await sql`SELECT FROM usages WHERE coupon_id = ANY (${holdings.map(({ couponId }) => couponId)}::uuid[])`;
    expect(rows).toHaveLength(0);
  });

  test("after a cancelled use takes a new lock, with a higher version", async () => {
    const { id } = await held();
    const { lockVersion } = await lockOne(here, { userId: "anna", coupons: [id] });
    const usage = await useOne(here, { userId: "anna", coupons: [{ id, lockVersion }] });
    await cancel(there, "anna", usage.id);
    expect(await refusal(use(here, { userId: "anna", coupons: [{ id, lockVersion }] }))).toBe("LOCK_LOST");
    expect((await lockOne(there, { userId: "anna", coupons: [id] })).lockVersion).toBeGreaterThan(lockVersion);
  });
});

describe("UnlockCoupons", () => {
  test("ends the locks it names, and twice is once", async () => {
    const [one, other] = await Promise.all([held({ stackable: true }), held({ stackable: true })]);
    const order = { userId: "anna", coupons: [one.id, other.id] };
    const locks = await lock(here, order);
    const named = locks.map(({ userCouponId, lockVersion }) => ({ id: userCouponId.toUpperCase(), lockVersion }));
    expect((await unlock(there, "anna", named)).sort()).toEqual([one.id, other.id].sort());
    expect((await read(here, "anna", one.id)).status).toBe(UserCouponStatus.READY);
    expect(await unlock(here, "anna", named)).toEqual([]);
    // What it named does not stand any more: a lock that came after it is none of its business.
    const [again] = await lock(here, { userId: "anna", coupons: [one.id] });
    expect(again?.lockVersion).toBeGreaterThan(locks[0]!.lockVersion);
    expect(await unlock(there, "anna", named)).toEqual([]);
    expect((await read(here, "anna", one.id)).status).toBe(UserCouponStatus.LOCKED);
    expect(await refusal(use(here, { userId: "anna", coupons: [named[1]!] }))).toBe("LOCK_LOST");
  });

  test("of versions that never were, or of what was used, changes nothing and succeeds", async () => {
    const { id, couponId } = await held();
    await use(here, { userId: "anna", coupons: [id] });
    const before = await storedOf(sql, [couponId]);
    for (const lockVersion of [1n, 2n ** 53n + 1n, 2n ** 63n - 1n]) {
      expect(await unlock(there, "anna", [{ id, lockVersion }])).toEqual([]);
    }
    expect(await storedOf(sql, [couponId])).toEqual(before);
  });

  test("of another user's, of nobody's and of a deleted one is NOT_FOUND, and ends no other lock", async () => {
    const [one, gone] = await Promise.all([held(), held()]);
    const { lockVersion } = await lockOne(here, { userId: "anna", coupons: [one.id] });
    await here.call(UserCouponService.method.deleteUserCoupon, { userId: "anna", userCouponId: gone.id });
    const mine = { id: one.id, lockVersion };
    const calls: [string, { id: string; lockVersion: bigint }[]][] = [
      ["bert", [mine]],
      ["anna", [{ id: randomUUID(), lockVersion: 1n }]],
      ["anna", [mine, { id: gone.id, lockVersion: 1n }]],
      ["anna", [{ id: randomUUID(), lockVersion: 1n }, mine]],
    ];
    for (const [userId, coupons] of calls) {
      expect(await answerOf(unlock(there, userId, coupons))).toMatchObject({
        code: "NOT_FOUND",
        reason: "USER_COUPON_NOT_FOUND",
      });
    }
    expect((await read(here, "anna", one.id)).status).toBe(UserCouponStatus.LOCKED);
  });
});
