import { randomUUID } from "node:crypto";
import { timestampFromMs, timestampMs } from "@bufbuild/protobuf/wkt";
import { afterAll, describe, expect, test } from "vitest";
import { CatalogService } from "../../gen/coupon/v1/catalog_service_pb.js";
import type { Usage } from "../../gen/coupon/v1/usage_pb.js";
import { UsageService } from "../../gen/coupon/v1/usage_service_pb.js";
import { UserCouponStatus } from "../../gen/coupon/v1/user_coupon_pb.js";
import type { GrpcClient } from "../support/clients.js";
import { twoReplicas } from "../support/service.js";
import {
  answerOfJson,
  callJson,
  cancel,
  imbalances,
  lockOne,
  type OrderInit,
  objectionsOf,
  quote,
  read,
  storedOf,
  usd,
  use,
  useOne,
} from "./checkout.js";
import { answerOf } from "./front-ends.js";
import { type CouponInit, createSample, issued, readCoupon } from "./samples.js";

const { cancelUsage, getUsage, listUsages } = UsageService.method;

const { sql, replicas, clients } = await twoReplicas(afterAll);
const [here, there] = clients;

const clientOf = (index: number): GrpcClient => (index % 2 === 0 ? here : there);
const percent = (percentage: number) => ({
  kind: { case: "percentageBasisPoints" as const, value: percentage * 100 },
});
const fixed = (amount: ReturnType<typeof usd>) => ({ kind: { case: "fixedAmount" as const, value: amount } });

/** A user coupon of a new coupon, held by "anna". */
async function held(fields: CouponInit = {}, userId = "anna"): Promise<{ id: string; couponId: string }> {
  const coupon = await createSample(here, fields);
  return await issued(here, coupon.id, userId);
}

function refusal(call: Promise<unknown>): Promise<string> {
  return answerOf(call).then(({ code, reason }) => `${code} ${reason}`);
}

describe("what is taken off, quoted and then used", () => {
  interface Case {
    readonly what: string;
    readonly coupons: readonly CouponInit[];
    readonly amount: ReturnType<typeof usd>;
    /** By user coupon, in the order of the request. */
    readonly off: readonly number[];
  }
  const cases: Case[] = [
    { what: "12.5% of 999, rounded down", coupons: [{ discount: percent(12.5) }], amount: usd(999), off: [124] },
    {
      what: "50% with a ceiling",
      coupons: [{ discount: { ...percent(50), maximumAmount: usd(2_000) } }],
      amount: usd(10_000),
      off: [2_000],
    },
    { what: "500 off 300", coupons: [{ discount: fixed(usd(500)) }], amount: usd(300), off: [300] },
    { what: "100% of it", coupons: [{ discount: percent(100) }], amount: usd(12_345), off: [12_345] },
    { what: "an order of nothing", coupons: [{ discount: percent(100) }], amount: usd(0), off: [0] },
    { what: "0.01% of little", coupons: [{ discount: percent(0.01) }], amount: usd(9_999), off: [0] },
    {
      what: "the greatest amount there is",
      coupons: [{ discount: percent(99.99) }],
      amount: usd(10 ** 15),
      off: [999_900_000_000_000],
    },
    { what: "another currency, for a bare percentage", coupons: [{}], amount: usd(1_000, "JPY"), off: [100] },
    {
      what: "an order of exactly the minimum",
      coupons: [{ discount: { ...percent(10), minimumOrderAmount: usd(1_000) } }],
      amount: usd(1_000),
      off: [100],
    },
    {
      what: "a fixed amount after a percentage, whatever the order of the request",
      coupons: [
        { discount: fixed(usd(1_500)), stackable: true },
        { discount: percent(10), stackable: true },
      ],
      amount: usd(10_000),
      off: [1_500, 1_000],
    },
    {
      what: "two percentages and two amounts, the greater first",
      coupons: [
        { discount: fixed(usd(100)), stackable: true },
        { discount: percent(10), stackable: true },
        { discount: fixed(usd(700)), stackable: true },
        { discount: percent(50), stackable: true },
      ],
      amount: usd(1_000),
      // 50% of 1,000, 10% of 500, 700 off 450, and nothing is left.
      off: [0, 50, 450, 500],
    },
    {
      what: "a minimum, held against the whole order",
      coupons: [
        { discount: percent(90), stackable: true },
        { discount: { ...fixed(usd(50)), minimumOrderAmount: usd(1_000) }, stackable: true },
      ],
      amount: usd(1_000),
      off: [900, 50],
    },
  ];

  test.for(cases)("$what", async ({ coupons, amount, off }) => {
    const holdings = await Promise.all(coupons.map((fields) => held(fields)));
    const order = { userId: "anna", coupons: holdings.map(({ id }) => id), amount };
    const before = await storedOf(
      sql,
      holdings.map(({ couponId }) => couponId),
    );
    const quoted = await quote(here, order);
    expect(
      await storedOf(
        sql,
        holdings.map(({ couponId }) => couponId),
      ),
    ).toEqual(before);
    const money = (minorUnits: number) => usd(minorUnits, amount.currencyCode);
    const total = off.reduce((sum, one) => sum + one, 0);
    expect(quoted).toMatchObject({
      quotes: holdings.map(({ id, couponId }, index) => ({
        userCouponId: id,
        couponId,
        discountAmount: money(off[index] as number),
        objections: [],
      })),
      discountAmount: money(total),
      finalAmount: money(Number(amount.minorUnits) - total),
      usable: true,
    });
    const used = await use(there, { ...order, productId: "scooter", orderId: `order ${holdings[0]?.id}` });
    expect(used).toMatchObject({
      usages: quoted.quotes.map(({ userCouponId, couponId, discountAmount }) => ({
        ...{ userCouponId, couponId, userId: "anna", productId: "scooter", orderId: `order ${holdings[0]?.id}` },
        ...{ orderAmount: amount, discountAmount },
      })),
      discountAmount: quoted.discountAmount!,
      finalAmount: quoted.finalAmount!,
      replayed: false,
    });
    for (const usage of used.usages) expect(usage.cancelTime).toBeUndefined();
    expect(new Set(used.usages.map(({ id }) => id)).size).toBe(holdings.length);
  });

  test("equal fixed amounts apply in the order of the user coupons' ids", async () => {
    const { couponId, id: first } = await held({ discount: fixed(usd(600)), stackable: true, maxPerUser: 2 });
    const { id: second } = await issued(there, couponId, "anna");
    expect(second > first).toBe(true);
    const quoted = await quote(here, { userId: "anna", coupons: [second, first], amount: 1_000 });
    expect(quoted.quotes.map(({ discountAmount }) => discountAmount?.minorUnits)).toEqual([400n, 600n]);
  });

  test("of an order with an objection the quote says what the others would take off", async () => {
    const one = await held({ discount: percent(10), stackable: true });
    const other = await held({ discount: fixed(usd(100, "EUR")), stackable: true });
    const quoted = await quote(here, { userId: "anna", coupons: [other.id, one.id] });
    expect(objectionsOf(quoted)).toEqual([["CURRENCY_MISMATCH"], []]);
    expect(quoted.quotes[0]?.objections[0]?.message).not.toBe("");
    expect(quoted).toMatchObject({ usable: false, discountAmount: usd(1_000), finalAmount: usd(9_000) });
    expect(quoted.quotes.map(({ discountAmount }) => discountAmount)).toMatchObject([usd(0), usd(1_000)]);
  });
});

describe("what does not speak against it", () => {
  test("a coupon that is paused, deleted, not begun or sold out is used all the same", async () => {
    const { pauseCoupon, deleteCoupon, updateCoupon } = CatalogService.method;
    const [paused, deleted, early, soldOut] = await Promise.all([held(), held(), held(), held({ quantity: 1n })]);
    await here.call(pauseCoupon, { couponId: paused.couponId });
    await here.call(deleteCoupon, { couponId: deleted.couponId });
    await here.call(updateCoupon, {
      coupon: { id: early.couponId, startTime: timestampFromMs(Date.now() + 60_000) },
      updateMask: { paths: ["start_time"] },
    });
    for (const { id } of [paused, deleted, early, soldOut]) {
      expect((await use(there, { userId: "anna", coupons: [id] })).usages).toHaveLength(1);
    }
  });

  test("the discount is the coupon's present one, the number of uses that of the day of issue", async () => {
    const { id, couponId } = await held({ discount: percent(10), maxUses: 2 });
    await quote(here, { userId: "anna", coupons: [id] });
    await there.call(CatalogService.method.updateCoupon, {
      coupon: { id: couponId, discount: percent(25), maxUses: 5 },
      updateMask: { paths: ["discount", "max_uses"] },
    });
    for (const client of [here, there]) {
      expect((await useOne(client, { userId: "anna", coupons: [id] })).discountAmount).toMatchObject(usd(2_500));
    }
    expect(await refusal(use(here, { userId: "anna", coupons: [id] }))).toBe("FAILED_PRECONDITION ALREADY_USED");
    expect((await issued(here, couponId, "bert")).maxUses).toBe(5);
  });
});

describe("a repeated use", () => {
  test("gets the same usages, through either replica, also when they were cancelled", async () => {
    const [one, other] = [await held({ stackable: true }), await held({ stackable: true })];
    const order = {
      ...{ userId: "anna", coupons: [one.id, other.id], requestId: randomUUID() },
      ...{ orderId: randomUUID(), productId: "p", amount: 777 },
    };
    const first = await use(here, order);
    expect(first.replayed).toBe(false);
    for (const client of [here, there]) expect(await use(client, order)).toEqual({ ...first, replayed: true });
    const cancelled = await cancel(there, "anna", first.usages[1]?.id as string);
    for (const client of [here, there]) {
      expect(await use(client, order)).toEqual({ ...first, usages: [first.usages[0], cancelled], replayed: true });
    }
    expect(await imbalances(sql, [one.couponId, other.couponId])).toEqual([]);
    expect((await readCoupon(here, one.couponId)).usedCount).toBe(1n);
  });

  test("may name another lock version, the ids in capitals, and nothing else that differs", async () => {
    const { id, couponId } = await held({ maxUses: 5 });
    const order = {
      userId: "anna",
      coupons: [id],
      requestId: randomUUID(),
      orderId: randomUUID(),
      productId: "p",
      amount: 100,
    };
    const { lockVersion } = await lockOne(here, order);
    const first = await use(here, { ...order, coupons: [{ id, lockVersion }] });
    for (const coupons of [[id], [{ id, lockVersion }], [{ id: id.toUpperCase(), lockVersion: 99n }]]) {
      expect(await use(there, { ...order, coupons })).toEqual({ ...first, replayed: true });
    }
    const other = await issued(here, (await createSample(here, { stackable: true })).id, "anna");
    const differing: Partial<OrderInit>[] = [
      { userId: "bert" },
      { productId: "q" },
      { orderId: "q" },
      { amount: 101 },
      { amount: usd(100, "EUR") },
      { coupons: [other.id] },
      { coupons: [id, other.id] },
      { coupons: [other.id, id] },
    ];
    for (const change of differing) {
      const answer = await answerOf(use(there, { ...order, ...change }));
      expect([change, answer.code, answer.reason, answer.fields]).toEqual([
        change,
        "INVALID_ARGUMENT",
        "REQUEST_ID_REUSED",
        ["request_id"],
      ]);
    }
    expect((await readCoupon(here, couponId)).usedCount).toBe(1n);
    expect((await read(here, "anna", other.id)).useCount).toBe(0);
  });

  test.for([1, 3])("30 at once of %i user coupons make one use", async (count) => {
    const holdings = await Promise.all(
      Array.from({ length: count }, () => held({ stackable: true, maxUses: 5, usageCap: 100n })),
    );
    const order = {
      userId: "anna",
      coupons: holdings.map(({ id }) => id),
      requestId: randomUUID(),
      orderId: randomUUID(),
    };
    const answers = await Promise.all(Array.from({ length: 30 }, (_, index) => use(clientOf(index), order)));
    const ids = answers.map(({ usages }) => usages.map((usage) => usage.id).join());
    expect(new Set(ids).size).toBe(1);
    expect(answers.filter(({ replayed }) => !replayed)).toHaveLength(1);
    expect(
      await imbalances(
        sql,
        holdings.map(({ couponId }) => couponId),
      ),
    ).toEqual([]);
    for (const { couponId } of holdings) expect((await readCoupon(there, couponId)).usedCount).toBe(1n);
  });

  test("without a request id it is another use", async () => {
    const { id } = await held({ maxUses: 2, stackable: true });
    const order = { userId: "anna", coupons: [id], orderId: "same" };
    const [first, second] = [await useOne(here, order), await useOne(there, order)];
    expect(first.id).not.toBe(second.id);
    expect((await read(here, "anna", id)).status).toBe(UserCouponStatus.USED);
  });
});

test("20 user coupons in one order, and the same ones in orders that race, all or none", async () => {
  const coupon = await createSample(here, { stackable: true, maxPerUser: 20 });
  const ids = await Promise.all(Array.from({ length: 20 }, () => issued(here, coupon.id, "anna").then(({ id }) => id)));
  const answers = await Promise.all(
    Array.from({ length: 20 }, (_, index) =>
      answerOf(
        use(clientOf(index), {
          userId: "anna",
          coupons: index % 2 === 0 ? ids : [...ids].reverse(),
          orderId: `o${index}`,
          amount: 10 ** 9,
        }),
      ),
    ),
  );
  const reasons = answers.map(({ reason }) => reason ?? "USED").sort();
  expect(reasons).toEqual([...Array(19).fill("ALREADY_USED"), "USED"].sort());
  for (const { code, preconditions } of answers) {
    if (code !== "OK") expect(preconditions).toEqual(ids.map((_, index) => `coupons[${index}] ALREADY_USED`));
  }
  const { usages } = await here.call(listUsages, { couponId: coupon.id });
  expect(usages).toHaveLength(20);
  expect(new Set(usages.map(({ orderId }) => orderId)).size).toBe(1);
  expect(await imbalances(sql, [coupon.id])).toEqual([]);
});

test("orders that overlap and race are used as a whole or not at all", async () => {
  const coupon = await createSample(here, { stackable: true, maxPerUser: 12 });
  const ids = await Promise.all(Array.from({ length: 12 }, () => issued(here, coupon.id, "anna").then(({ id }) => id)));
  // Each user coupon is wanted by three orders, and each order wants three of them.
  const answers = await Promise.all(
    ids.map((_, n) => {
      const coupons = [0, 1, 2].map((step) => ids[(n + step) % ids.length] as string);
      return answerOf(use(clientOf(n), { userId: "anna", coupons, orderId: `order ${n}` }));
    }),
  );
  const { usages } = await there.call(listUsages, { couponId: coupon.id });
  const usedBy = (orderId: string) => usages.filter((usage) => usage.orderId === orderId).length;
  expect(answers.map((_, n) => usedBy(`order ${n}`))).toEqual(answers.map(({ code }) => (code === "OK" ? 3 : 0)));
  for (const { reason } of answers) expect(["ALREADY_USED", undefined]).toContain(reason);
  expect(usages.length).toBeGreaterThan(0);
  expect(await imbalances(sql, [coupon.id])).toEqual([]);
});

describe("CancelUsage", () => {
  const usedUp = async (fields: CouponInit = {}): Promise<Usage> => {
    const { id } = await held(fields);
    return await useOne(here, { userId: "anna", coupons: [id] });
  };

  test("makes the user coupon ready again, and every counter goes back by one", async () => {
    const usage = await usedUp({ quantity: 5n });
    const { userCouponId, couponId } = usage;
    expect(await readCoupon(there, couponId)).toMatchObject({ usedCount: 1n, issuedCount: 1n });
    const cancelled = await cancel(there, "anna", usage.id.toUpperCase());
    const { cancelTime, ...rest } = cancelled;
    expect({ ...usage, ...rest }).toEqual(usage);
    expect(timestampMs(cancelTime!)).toBeGreaterThanOrEqual(timestampMs(usage.useTime!));
    expect(await readCoupon(here, couponId)).toMatchObject({ usedCount: 0n, issuedCount: 1n });
    const userCoupon = await read(here, "anna", userCouponId);
    expect(userCoupon).toMatchObject({ status: UserCouponStatus.READY, useCount: 0, usages: [cancelled] });
    const again = await useOne(there, { userId: "anna", coupons: [userCouponId] });
    expect((await read(here, "anna", userCouponId)).usages).toEqual([again, cancelled]);
    expect(await imbalances(sql, [couponId])).toEqual([]);
  });

  test("twice is refused, and changes nothing", async () => {
    const { id, couponId } = await usedUp();
    await cancel(here, "anna", id);
    const before = await storedOf(sql, [couponId]);
    expect(await refusal(cancel(there, "anna", id))).toBe("FAILED_PRECONDITION USAGE_ALREADY_CANCELLED");
    expect(await refusal(cancel(here, "anna", id, "new id"))).toBe("INVALID_ARGUMENT INVALID_FIELD");
    expect(await refusal(cancel(here, "anna", id, "new-id"))).toBe("FAILED_PRECONDITION USAGE_ALREADY_CANCELLED");
    expect(await storedOf(sql, [couponId])).toEqual(before);
  });

  test("twice with one request id gets the same answer; another usage with it is refused", async () => {
    const [one, other] = [await usedUp(), await usedUp()];
    const requestId = randomUUID();
    const first = await cancel(here, "anna", one.id, requestId);
    for (const client of [here, there]) expect(await cancel(client, "anna", one.id, requestId)).toEqual(first);
    expect(await refusal(cancel(there, "anna", other.id, requestId))).toBe("INVALID_ARGUMENT REQUEST_ID_REUSED");
    expect((await readCoupon(here, other.couponId)).usedCount).toBe(1n);
    // Request ids are separate for each method.
    const third = await held();
    await use(here, { userId: "anna", coupons: [third.id], requestId });
  });

  test("20 at once count once", async () => {
    const { id, couponId } = await usedUp({ usageCap: 5n });
    const answers = await Promise.all(
      Array.from({ length: 20 }, (_, index) => answerOf(cancel(clientOf(index), "anna", id))),
    );
    expect(answers.filter(({ code }) => code === "OK")).toHaveLength(1);
    expect(answers.filter(({ reason }) => reason === "USAGE_ALREADY_CANCELLED")).toHaveLength(19);
    expect((await readCoupon(here, couponId)).usedCount).toBe(0n);
    const { id: second } = await usedUp();
    const requestId = randomUUID();
    const same = await Promise.all(
      Array.from({ length: 20 }, (_, index) => cancel(clientOf(index), "anna", second, requestId)),
    );
    for (const one of same) expect(one).toEqual(same[0]);
  });

  test("of what another user used, or nobody, is NOT_FOUND, and so it is to read it", async () => {
    const { id } = await usedUp();
    const port = replicas[1].httpPort;
    for (const [userId, usageId] of [
      ["bert", id],
      ["Anna", id],
      ["anna", randomUUID()],
    ] as const) {
      expect(await refusal(cancel(here, userId, usageId))).toBe("NOT_FOUND USAGE_NOT_FOUND");
      expect(await refusal(here.call(getUsage, { userId, usageId }))).toBe("NOT_FOUND USAGE_NOT_FOUND");
      for (const method of [cancelUsage, getUsage]) {
        const answer = await answerOfJson(callJson(port, method, { userId, usageId }));
        expect([answer.code, answer.reason]).toEqual(["NOT_FOUND", "USAGE_NOT_FOUND"]);
      }
    }
    const { usage } = await there.call(getUsage, { userId: "anna", usageId: id.toUpperCase() });
    expect(usage).toMatchObject({ id, userId: "anna" });
    expect(usage?.cancelTime).toBeUndefined();
  });
});
