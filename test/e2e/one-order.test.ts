import { randomUUID } from "node:crypto";
import { afterAll, describe, expect, test } from "vitest";
import { CatalogService } from "../../gen/coupon/v1/catalog_service_pb.js";
import { IssuanceService } from "../../gen/coupon/v1/issuance_service_pb.js";
import { UsageService } from "../../gen/coupon/v1/usage_service_pb.js";
import { UserCouponService } from "../../gen/coupon/v1/user_coupon_service_pb.js";
import { CallError } from "../support/clients.js";
import { twoReplicas } from "../support/service.js";
import { cancel, imbalances, lock, objectionsOf, quote, read, usd, use, useOne } from "./checkout.js";
import { type CouponInit, createSample, issued } from "./samples.js";

const { cancelUsage, useCoupons, quoteUsage, unlockCoupons } = UsageService.method;

const { sql, clients } = await twoReplicas(afterAll);
const [here, there] = clients;

const percent = (percentage: number) => ({
  kind: { case: "percentageBasisPoints" as const, value: percentage * 100 },
});
const held = async (userId: string, fields: CouponInit = {}) =>
  await issued(here, (await createSample(here, { discount: percent(10), stackable: true, ...fields })).id, userId);
/** The reason of the refusal, and the fields that it names. */
async function refusal(call: Promise<unknown>): Promise<string> {
  const error = await call.then(
    () => undefined,
    (failure: unknown) => failure,
  );
  if (!(error instanceof CallError)) throw error ?? new Error("it was not refused");
  return [error.reason, ...error.fields].join(" ");
}
const newBuyer = () => ({ userId: `buyer-${randomUUID()}`, orderId: "the order" });

describe("one order in several calls", () => {
  test("each call takes off of what is left, and is told what is left then, also when it is repeated", async () => {
    const buyer = newBuyer();
    const [a, b, c] = [
      await held(buyer.userId),
      await held(buyer.userId),
      await held(buyer.userId, { discount: percent(100) }),
    ];
    const first = { ...buyer, coupons: [a.id], requestId: randomUUID() };
    const used = await use(here, first);
    expect(used).toMatchObject({ discountAmount: usd(1_000), finalAmount: usd(9_000) });
    const second = { ...buyer, coupons: [b.id, c.id], requestId: randomUUID() };
    expect(await quote(there, second)).toMatchObject({ discountAmount: usd(9_000), finalAmount: usd(0), usable: true });
    const rest = await use(there, second);
    expect(rest).toMatchObject({ discountAmount: usd(9_000), finalAmount: usd(0) });
    expect(await use(there, first)).toEqual({ ...used, replayed: true });
    await cancel(here, buyer.userId, used.usages[0]?.id as string);
    expect(await use(here, second)).toEqual({ ...rest, replayed: true });
    expect(await imbalances(sql, [a.couponId, b.couponId, c.couponId])).toEqual([]);
  });

  test("a cancelled use gives back its part", async () => {
    const buyer = newBuyer();
    const [alone, other] = [await held(buyer.userId, { stackable: false }), await held(buyer.userId)];
    const usage = await useOne(here, { ...buyer, coupons: [alone.id] });
    const order = { ...buyer, coupons: [other.id] };
    expect(await refusal(use(there, order))).toBe("NOT_STACKABLE");
    expect(await refusal(lock(there, order))).toBe("NOT_STACKABLE");
    expect(objectionsOf(await quote(there, order))).toEqual([["NOT_STACKABLE"]]);
    expect((await quote(there, order)).finalAmount).toMatchObject(usd(9_000));
    await cancel(here, buyer.userId, usage.id);
    expect(await use(there, order)).toMatchObject({ discountAmount: usd(1_000), finalAmount: usd(9_000) });
    expect(await refusal(use(here, { ...buyer, coupons: [alone.id] }))).toBe("NOT_STACKABLE");
  });

  test("has one amount in one currency, while uses of it stand; another user's order has its own", async () => {
    const buyer = newBuyer();
    const [a, b] = [await held(buyer.userId), await held(buyer.userId)];
    const usage = await useOne(here, { ...buyer, coupons: [a.id] });
    for (const amount of [usd(9_999), usd(10_001), usd(10_000, "EUR")]) {
      const order = { ...buyer, coupons: [b.id], amount };
      expect(await refusal(use(there, order))).toBe("ORDER_MISMATCH");
      expect(await refusal(lock(there, order))).toBe("ORDER_MISMATCH");
      expect(objectionsOf(await quote(there, order))).toEqual([["ORDER_MISMATCH"]]);
    }
    const stranger = { ...newBuyer() };
    const strangers = await held(stranger.userId);
    await use(here, { ...stranger, coupons: [strangers.id], amount: usd(5, "EUR") });
    await cancel(here, buyer.userId, usage.id);
    expect(await use(there, { ...buyer, coupons: [b.id], amount: 50 })).toMatchObject({ finalAmount: usd(45) });
  });

  test("of 10 calls at once each takes off of what the others have left", async () => {
    const buyer = newBuyer();
    const coupons = await Promise.all(Array.from({ length: 10 }, () => held(buyer.userId, { discount: percent(50) })));
    const answers = await Promise.all(
      coupons.map(({ id }, n) => use(clients[n % 2]!, { ...buyer, coupons: [id], amount: 1_024 })),
    );
    const finals = answers.map(({ finalAmount }) => Number(finalAmount?.minorUnits)).sort((a, b) => b - a);
    expect(finals).toEqual([512, 256, 128, 64, 32, 16, 8, 4, 2, 1]);
  });

  test("two locks of one order cannot hold what does not stand together", async () => {
    const buyer = newBuyer();
    const [alone, other] = [await held(buyer.userId, { stackable: false }), await held(buyer.userId)];
    const granted = await lock(here, { ...buyer, coupons: [alone.id] });
    expect(await refusal(lock(there, { ...buyer, coupons: [other.id] }))).toBe("NOT_STACKABLE");
    // A lock reserves the user coupon, and nothing of the order.
    await use(there, { ...buyer, coupons: [other.id] });
    const named = { id: alone.id, lockVersion: granted[0]?.lockVersion ?? 0n };
    expect(await refusal(use(here, { ...buyer, coupons: [named] }))).toBe("NOT_STACKABLE");
  });
});

test("a user coupon that is named by its id and by its code in one call is INVALID_FIELD, which names the code", async () => {
  const userId = `buyer-${randomUUID()}`;
  const code = `ONE-${randomUUID()}`;
  const book = await createSample(here, { codeBook: {}, stackable: true, quantity: undefined });
  await here.call(CatalogService.method.uploadCodes, {
    target: { case: "couponId", value: book.id },
    lines: [{ code }],
  });
  const { userCoupon } = await here.call(IssuanceService.method.issueCoupon, {
    target: { case: "code", value: code },
    userId,
  });
  const byId = { target: { case: "userCouponId" as const, value: userCoupon?.id as string }, lockVersion: 1n };
  const byCode = (spelled = code) => ({ target: { case: "code" as const, value: spelled }, lockVersion: 1n });
  const order = { userId, productId: "p", orderId: "o", orderAmount: usd(10_000) };
  for (const [coupons, field] of [
    [[byId, byCode()], "coupons[1].code"],
    [[byCode(), byId], "coupons[0].code"],
    [[byCode(), byCode(code.toLowerCase())], "coupons[1].code"],
  ] as const) {
    const [named, said] = [{ ...order, coupons: [...coupons] }, `INVALID_FIELD ${field}`];
    expect(await refusal(here.call(useCoupons, named))).toBe(said);
    expect(await refusal(here.call(quoteUsage, named))).toBe(said);
    expect(await refusal(here.call(unlockCoupons, { userId, coupons: [...coupons] }))).toBe(said);
  }
});

test("a use by code is repeated with the same answer when its user coupon was deleted meanwhile", async () => {
  const userId = `buyer-${randomUUID()}`;
  const code = `GONE-${randomUUID()}`;
  const book = await createSample(here, { codeBook: {}, quantity: undefined });
  await here.call(CatalogService.method.uploadCodes, {
    target: { case: "couponId", value: book.id },
    lines: [{ code }],
  });
  const target = { case: "code" as const, value: code };
  const { userCoupon } = await here.call(IssuanceService.method.issueCoupon, { target, userId });
  const order = { userId, productId: "p", orderId: "o", orderAmount: usd(10_000), coupons: [{ target }] };
  const requestId = randomUUID();
  const { usages } = await here.call(useCoupons, { ...order, requestId });
  const userCouponId = userCoupon?.id as string;
  await here.call(UserCouponService.method.deleteUserCoupon, { userId, userCouponId, deleteUsed: true });
  const repeated = await there.call(useCoupons, { ...order, requestId });
  expect(repeated).toMatchObject({ replayed: true, usages: [{ id: usages[0]?.id }] });
  expect(await refusal(there.call(useCoupons, { ...order, requestId: randomUUID() }))).toBe("CODE_NOT_FOUND");
  const { quotes } = await here.call(quoteUsage, order);
  expect(quotes).toMatchObject([{ userCouponId: "", couponId: "", objections: [{}] }]);
});

describe("CancelUsage by user coupon", () => {
  test("cancels the only usage that stands, and says what is wrong otherwise", async () => {
    const userId = `buyer-${randomUUID()}`;
    const { id: userCouponId } = await held(userId, { maxUses: 3 });
    const byUserCoupon = { userId, userCouponId: userCouponId.toUpperCase() };
    expect(await refusal(here.call(cancelUsage, byUserCoupon))).toBe("USAGE_NOT_FOUND");
    const usage = await useOne(here, { userId, coupons: [userCouponId] });
    const requestId = randomUUID();
    const cancelled = await there.call(cancelUsage, { ...byUserCoupon, requestId });
    expect(cancelled.usage).toMatchObject({ id: usage.id, cancelTime: expect.anything() });
    expect(await read(here, userId, userCouponId)).toMatchObject({ useCount: 0 });
    expect(await refusal(there.call(cancelUsage, byUserCoupon))).toBe("USAGE_ALREADY_CANCELLED");
    for (let n = 0; n < 2; n++) await use(here, { userId, coupons: [userCouponId] });
    expect(await refusal(there.call(cancelUsage, byUserCoupon))).toBe("SEVERAL_USAGES");
    expect(await here.call(cancelUsage, { ...byUserCoupon, requestId })).toEqual(cancelled);
    expect(await refusal(here.call(cancelUsage, { userId, usageId: usage.id, requestId }))).toBe(
      "REQUEST_ID_REUSED request_id",
    );
  });

  test("needs one of the two names, and not both", async () => {
    const [usageId, userCouponId] = [randomUUID(), randomUUID()];
    expect(await refusal(here.call(cancelUsage, { userId: "u" }))).toBe("INVALID_FIELD usage_id");
    expect(await refusal(here.call(cancelUsage, { userId: "u", usageId, userCouponId }))).toBe(
      "INVALID_FIELD user_coupon_id",
    );
    expect(await refusal(here.call(cancelUsage, { userId: "u", userCouponId: "x" }))).toBe(
      "INVALID_FIELD user_coupon_id",
    );
  });
});
