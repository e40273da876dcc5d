import { randomUUID } from "node:crypto";
import { durationFromMs, timestampDate, timestampFromDate, timestampFromMs } from "@bufbuild/protobuf/wkt";
import { afterAll, describe, expect, test } from "vitest";
import { CatalogService } from "../../gen/coupon/v1/catalog_service_pb.js";
import { CouponType } from "../../gen/coupon/v1/coupon_pb.js";
import { ErrorReason } from "../../gen/coupon/v1/error_reason_pb.js";
import { IssuanceService } from "../../gen/coupon/v1/issuance_service_pb.js";
import { UsageService } from "../../gen/coupon/v1/usage_service_pb.js";
import { type UserCoupon, UserCouponStatus } from "../../gen/coupon/v1/user_coupon_pb.js";
import { UserCouponService } from "../../gen/coupon/v1/user_coupon_service_pb.js";
import { discountMessage } from "../../src/services/message.js";
import { type GrpcClient, letIn } from "../support/clients.js";
import { addCodes as addCodesBySql, type CodeFacts } from "../support/codes.js";
import { twoReplicas } from "../support/service.js";
import { until } from "../support/until.js";
import { usd } from "./checkout.js";
import { type Answer, answerOf } from "./front-ends.js";
import { type CouponInit, createSample, issue, readCoupon } from "./samples.js";

const { sql, clients } = await twoReplicas(afterAll);
const [here, there] = clients;

const { issueCoupon } = IssuanceService.method;
const clientOf = (index: number): GrpcClient => (index % 2 === 0 ? here : there);
const newBook = (fields: CouponInit = {}) => createSample(here, { codeBook: {}, ...fields });
const newCodes = (count: number) => {
  const prefix = randomUUID().slice(0, 8).toUpperCase();
  return Array.from({ length: count }, (_, index) => ({ code: `${prefix}-${String(index).padStart(5, "0")}` }));
};

async function upload(couponId: string, facts: readonly CodeFacts[]): Promise<void> {
  const lines = facts.map(({ code, discount, expiresAt, maxUses, maxHolders }) => ({
    code,
    terms: {
      ...(discount && { discount: discountMessage(discount) }),
      ...(expiresAt && { expireTime: timestampFromDate(expiresAt) }),
      ...(maxUses && { maxUses }),
      ...(maxHolders && { maxHolders }),
    },
  }));
  const target = { case: "couponId" as const, value: couponId };
  const answer = await there.call(CatalogService.method.uploadCodes, { target, lines });
  expect(answer).toMatchObject({ addedCount: facts.length, rejectedLines: [] });
}

function issueCode(client: GrpcClient, code: string, userId: string, requestId = "") {
  return client.call(issueCoupon, { target: { case: "code", value: code }, userId, requestId });
}

function issueType(client: GrpcClient, type: CouponType, userId: string, requestId = "") {
  return client.call(issueCoupon, { target: { case: "type", value: type }, userId, requestId });
}

async function reasonOf(call: Promise<unknown>): Promise<string | undefined> {
  const { code, reason } = await answerOf(call);
  return reason ?? code;
}

const orderOf = (code: string, userId: string, requestId = "", lockVersion = 0n) => ({
  userId,
  requestId,
  coupons: [{ target: { case: "code" as const, value: code }, lockVersion }],
  productId: "ride",
  orderId: randomUUID(),
  orderAmount: usd(10_000),
});

/** At rest the free seats of a book are what its quantity leaves. */
async function expectBookBalances(couponId: string): Promise<void> {
  const [row] = await sql<{ free: number; left: number; taken: number; held: number }[]>`
    SELECT
      (SELECT coalesce(sum(max_holders - holder_count), 0)::int FROM codes
        WHERE coupon_id = c.id AND retired_at IS NULL) AS free,
      (c.quantity - c.issued_count)::int AS left,
      (SELECT coalesce(sum(holder_count), 0)::int FROM codes WHERE coupon_id = c.id) AS taken,
      c.issued_count::int AS held
    FROM coupons c WHERE c.id = ${couponId}`;
  expect(row?.free).toBe(row?.left);
  expect(row?.taken).toBe(row?.held);
}

describe("a code book", () => {
  test("is empty until codes are added, and is sold out when they are gone", async () => {
    const book = await newBook();
    expect(book).toMatchObject({ codeBook: { exactMatch: false }, quantity: 0n, remainingCount: 0n });
    expect(await reasonOf(issue(here, book.id, "early"))).toBe("SOLD_OUT");
    const codes = newCodes(3);
    await upload(book.id, codes);
    const got: string[] = [];
    for (const user of ["a", "b", "c"]) got.push(((await issue(here, book.id, user)).userCoupon as UserCoupon).code);
    expect(got.sort()).toEqual(codes.map(({ code }) => code));
    expect(await reasonOf(issue(there, book.id, "d"))).toBe("SOLD_OUT");
    await expectBookBalances(book.id);
  });

  test("gives a thousand callers at once a different code each", async () => {
    const book = await newBook();
    await upload(book.id, newCodes(800));
    const ask = (index: number) =>
      letIn(() => issue(clientOf(index), book.id, `user ${index}`)).then(
        ({ userCoupon }) => (userCoupon as UserCoupon).code,
        async (error) => (await answerOf(Promise.reject(error))).reason ?? "?",
      );
    const answers = await Promise.all(Array.from({ length: 1_000 }, (_, index) => ask(index)));
    const soldOut = answers.filter((answer) => answer === "SOLD_OUT");
    const codes = answers.filter((answer) => answer !== "SOLD_OUT");
    expect(soldOut).toHaveLength(200);
    expect(new Set(codes).size).toBe(800);
    await expectBookBalances(book.id);
  });

  test("hands its codes out at random", async () => {
    const book = await newBook();
    const codes = newCodes(60);
    await upload(book.id, codes);
    const order: string[] = [];
    for (let user = 0; user < 20; user++) {
      order.push(((await issue(here, book.id, `u${user}`)).userCoupon as UserCoupon).code);
    }
    // In order of upload with a chance of 40!/60!.
    expect(order).not.toEqual(codes.slice(0, 20).map(({ code }) => code));
  });

  test("a code's own terms are those of the user coupon", async () => {
    const book = await newBook({ maxUses: 1 });
    const expiresAt = new Date(Date.now() + 3_600_000);
    const discount = {
      kind: { case: "fixedAmount" as const, amount: { currencyCode: "USD", minorUnits: 700 } },
      maximumAmount: null,
      minimumOrderAmount: null,
    };
    const [{ code } = { code: "" }] = newCodes(1);
    await upload(book.id, [{ code, expiresAt, discount, maxUses: 2 }]);
    const { userCoupon } = await issue(here, book.id, "u");
    expect(userCoupon).toMatchObject({ code, maxUses: 2 });
    expect(timestampDate(userCoupon!.expireTime!)).toEqual(expiresAt);
    const { userCoupons } = await there.call(UserCouponService.method.listUserCoupons, { userId: "u" });
    expect(userCoupons.find(({ id }) => id === userCoupon!.id)).toMatchObject({
      code,
      discount: { kind: { case: "fixedAmount", value: { currencyCode: "USD", minorUnits: 700n } } },
    });
    for (const left of [1, 0]) {
      const used = await clientOf(left).call(UsageService.method.useCoupons, orderOf(code, "u"));
      expect(used.discountAmount).toMatchObject({ minorUnits: 700n });
    }
    expect(await reasonOf(here.call(UsageService.method.useCoupons, orderOf(code, "u")))).toBe("ALREADY_USED");
  });

  test("a code that has expired is not issued", async () => {
    const book = await newBook();
    const [late, good] = newCodes(2) as [{ code: string }, { code: string }];
    await addCodesBySql(sql, book.id, [{ ...late, expiresAt: new Date(Date.now() - 1) }, good]);
    expect(await reasonOf(issueCode(here, late.code, "x"))).toBe("CODE_EXPIRED");
    expect((await issue(here, book.id, "y")).userCoupon).toMatchObject({ code: good.code });
    expect(await reasonOf(issue(there, book.id, "z"))).toBe("SOLD_OUT");
  });
});

describe("one code", () => {
  test("is issued however it is written, once", async () => {
    const book = await newBook();
    const tag = randomUUID().slice(0, 6).toUpperCase();
    await upload(book.id, [{ code: `Summer-${tag}` }, ...newCodes(1)]);
    const { userCoupon } = await issueCode(here, `summer ${tag.toLowerCase()}`, "u");
    expect(userCoupon).toMatchObject({ code: `Summer-${tag}`, couponId: book.id });
    expect(await reasonOf(issueCode(there, `SUMMER${tag}`, "v"))).toBe("CODE_TAKEN");
    expect(await reasonOf(issueCode(there, `SUMMER${tag}`, "u"))).toBe("ALREADY_ISSUED");
    expect(await reasonOf(issueCode(there, `WINTER${tag}`, "u"))).toBe("CODE_NOT_FOUND");
  });

  test("is told apart by case where the book says so", async () => {
    const book = await newBook({ codeBook: { exactMatch: true }, maxPerUser: 3 });
    const tag = randomUUID().slice(0, 6);
    await upload(book.id, [{ code: `x-${tag}` }, { code: `X-${tag}` }]);
    expect((await issueCode(here, `X-${tag}`, "u")).userCoupon).toMatchObject({ code: `X-${tag}` });
    expect((await issueCode(here, `x-${tag}`, "u")).userCoupon).toMatchObject({ code: `x-${tag}` });
    expect(await reasonOf(issueCode(here, `x${tag}`, "u"))).toBe("CODE_NOT_FOUND");
  });

  test("goes to one of many who want it at once, and to as many as may hold it", async () => {
    const book = await newBook();
    const [one, shared] = newCodes(2) as [{ code: string }, { code: string }];
    await upload(book.id, [one, { ...shared, maxHolders: 30 }]);
    const want = async (code: string, prefix: string): Promise<Answer[]> =>
      await Promise.all(
        Array.from({ length: 60 }, (_, index) => answerOf(issueCode(clientOf(index), code, `${prefix}${index}`))),
      );
    for (const [code, seats, prefix] of [
      [one.code, 1, "a"],
      [shared.code, 30, "b"],
    ] as const) {
      const answers = await want(code, prefix);
      expect(answers.filter((answer) => answer.code === "OK")).toHaveLength(seats);
      expect(answers.filter(({ reason }) => reason === "CODE_TAKEN")).toHaveLength(60 - seats);
    }
    await expectBookBalances(book.id);
  });

  test("a repeated request gets the same one, for another code it is refused", async () => {
    const book = await newBook({ maxPerUser: 5 });
    const [one, other] = newCodes(2) as [{ code: string }, { code: string }];
    await upload(book.id, [one, other]);
    const requestId = randomUUID();
    const first = await issueCode(here, one.code, "u", requestId);
    const again = await issueCode(there, one.code.toLowerCase(), "u", requestId);
    expect(again).toMatchObject({ replayed: true, userCoupon: { id: first.userCoupon!.id } });
    for (const client of [here, there]) {
      expect(await reasonOf(issueCode(client, other.code, "u", requestId))).toBe("REQUEST_ID_REUSED");
    }
  });

  test("is quoted, locked, unlocked and used by its holder alone", async () => {
    const book = await newBook();
    const [{ code } = { code: "" }] = newCodes(1);
    await upload(book.id, [{ code }]);
    const held = (await issueCode(here, code, "u")).userCoupon!;
    const { quoteUsage, lockCoupons, unlockCoupons, useCoupons } = UsageService.method;

    const quote = await there.call(quoteUsage, orderOf(code.toLowerCase(), "u"));
    expect(quote).toMatchObject({ usable: true, quotes: [{ userCouponId: held.id }] });
    const none = await there.call(quoteUsage, orderOf(code, "somebody else"));
    expect(none.quotes[0]?.objections).toMatchObject([{ reason: ErrorReason.CODE_NOT_FOUND }]);
    expect(await reasonOf(here.call(useCoupons, orderOf(code, "somebody else")))).toBe("CODE_NOT_FOUND");

    const locked = await here.call(lockCoupons, orderOf(code, "u"));
    expect(await reasonOf(there.call(useCoupons, orderOf(code, "u")))).toBe("LOCKED");
    const lockVersion = locked.locks[0]!.lockVersion;
    const target = { case: "code" as const, value: code };
    await there.call(unlockCoupons, { userId: "u", coupons: [{ target, lockVersion }] });

    const requestId = randomUUID();
    const order = orderOf(code, "u", requestId);
    const used = await there.call(useCoupons, order);
    expect(used.usages).toMatchObject([{ userCouponId: held.id }]);
    const again = await here.call(useCoupons, order);
    expect(again).toMatchObject({ replayed: true, usages: [{ id: used.usages[0]!.id }] });
  });

  test("of several user coupons with it, the one that can be used is used, and a retry finds the one that was", async () => {
    const book = await newBook({ maxPerUser: 2 });
    const [{ code } = { code: "" }] = newCodes(1);
    await upload(book.id, [{ code, maxHolders: 2 }]);
    const ids = [];
    for (let n = 0; n < 2; n++) ids.push((await issueCode(here, code, "u")).userCoupon!.id);
    const orders = [orderOf(code, "u", randomUUID()), orderOf(code, "u", randomUUID())];
    const usedIds: string[] = [];
    for (const order of orders) {
      const { usages } = await here.call(UsageService.method.useCoupons, order);
      usedIds.push(usages[0]!.userCouponId);
    }
    expect(usedIds.sort()).toEqual(ids.sort());
    for (const order of orders) {
      expect(await there.call(UsageService.method.useCoupons, order)).toMatchObject({ replayed: true });
    }
  });

  test("named twice in one order is bad input", async () => {
    const target = { case: "code" as const, value: "TWICE" };
    const order = { ...orderOf("TWICE", "u"), coupons: [{ target }, { target }] };
    const answer = await answerOf(here.call(UsageService.method.useCoupons, order));
    expect(answer).toMatchObject({ reason: "INVALID_FIELD", fields: ["coupons[1].code"] });
  });
});

describe("by type", () => {
  test("the coupon that expires first is issued, then the next one", async () => {
    const type = CouponType.STANDARD;
    const make = (hours: number, quantity: bigint) =>
      createSample(here, { type, quantity, expireTime: timestampFromMs(Date.now() + hours * 3_600_000) });
    const later = await make(5, 10n);
    const sooner = await make(2, 2n);
    const got = [];
    for (const user of ["a", "b", "c"]) got.push((await issueType(there, type, user)).userCoupon!.couponId);
    expect(got).toEqual([sooner.id, sooner.id, later.id]);
    // Who holds the first one gets the next.
    expect((await issueType(here, type, "a")).userCoupon!.couponId).toBe(later.id);
    expect(await reasonOf(issueType(here, type, "a"))).toBe("ALREADY_ISSUED");

    const requestId = randomUUID();
    const first = await issueType(here, type, "d", requestId);
    await make(1, 5n);
    const again = await issueType(there, type, "d", requestId);
    expect(again).toMatchObject({ replayed: true, userCoupon: { id: first.userCoupon!.id } });
    expect(await reasonOf(issueType(there, type, "e", requestId))).toBe("REQUEST_ID_REUSED");
    expect(await reasonOf(issueType(there, CouponType.FREE, "d", requestId))).toBe("REQUEST_ID_REUSED");
  });

  test("the same request at once through two replicas is issued once", async () => {
    const type = CouponType.STANDARD;
    await Promise.all([1, 2, 3].map((n) => createSample(here, { type, quantity: 5n, name: `offer ${n}` })));
    const requestId = randomUUID();
    const answers = await Promise.all(
      Array.from({ length: 20 }, (_, index) => issueType(clientOf(index), type, "racer", requestId)),
    );
    expect(new Set(answers.map(({ userCoupon }) => userCoupon!.id)).size).toBe(1);
    const [row] = await sql`SELECT count(*)::int AS count FROM user_coupons WHERE user_id = 'racer'`;
    expect(row?.count).toBe(1);
  });

  test("what was made one of another type is not issued by a replica that knew it as one of this type", async () => {
    const type = CouponType.MEGADEAL;
    const { id } = await createSample(here, { type, quantity: 2n });
    expect((await issueType(there, type, "before")).userCoupon!.couponId).toBe(id);
    await here.call(CatalogService.method.updateCoupon, {
      coupon: { id, type: CouponType.FREE },
      updateMask: { paths: ["type"] },
    });
    expect(await reasonOf(issueType(there, type, "after"))).toBe("SOLD_OUT");
    // And it keeps nothing of it.
    await issue(there, id, "last");
    expect(await readCoupon(here, id)).toMatchObject({ issuedCount: 2n, remainingCount: 0n });
  });

  test("nothing of a type is sold out, and what is new is found at once", async () => {
    const type = CouponType.FREE;
    expect(await reasonOf(issueType(here, type, "x"))).toBe("SOLD_OUT");
    const coupon = await createSample(there, { type, quantity: 1n });
    expect((await issueType(here, type, "x")).userCoupon).toMatchObject({ couponId: coupon.id });
    expect(await reasonOf(issueType(here, type, "y"))).toBe("SOLD_OUT");
    expect(await readCoupon(here, coupon.id)).toMatchObject({ type, remainingCount: 0n });
  });
});

test("what never changes of a coupon cannot be changed, and a book's quantity is not for callers", async () => {
  const answer = await answerOf(newBook({ quantity: 5n }));
  expect(answer).toMatchObject({ reason: "INVALID_FIELD", fields: ["coupon.quantity"] });
});

test("a code that was deleted and is another coupon's now is issued of that one at once", async () => {
  const [first, second] = [await newBook({ maxPerUser: 1 }), await newBook()];
  const [held, moved] = [`HELD-${randomUUID()}`, `MOVED-${randomUUID()}`];
  const lines = (...codes: string[]) => codes.map((code) => ({ code }));
  const to = (couponId: string) => ({ target: { case: "couponId", value: couponId } }) as const;
  await here.call(CatalogService.method.uploadCodes, { ...to(first.id), lines: lines(held, moved) });
  await issueCode(here, held, "mover");
  // So it has been looked up, and nobody holds it.
  expect(await reasonOf(issueCode(here, moved, "mover"))).toBe("ALREADY_ISSUED");
  await here.call(CatalogService.method.deleteCodes, { ...to(first.id), codes: [moved] });
  await here.call(CatalogService.method.uploadCodes, { ...to(second.id), lines: lines(moved) });
  expect((await issueCode(here, moved, "another")).userCoupon?.couponId).toBe(second.id);
});

describe("after its code was deleted, and was added to another book,", () => {
  const { useCoupons, cancelUsage } = UsageService.method;
  const { uploadCodes, deleteCodes } = CatalogService.method;
  const to = (couponId: string) => ({ target: { case: "couponId", value: couponId } }) as const;
  test.for([
    { name: "a repeated use", exactMatch: false, holder: "another" },
    { name: "a repeated use by who holds the code of the other book", exactMatch: false, holder: "user" },
    { name: "a repeated use in a book that tells codes apart by case", exactMatch: true, holder: "another" },
  ])("$name gets its first answer", async ({ exactMatch, holder }) => {
    const book = await newBook({ codeBook: { exactMatch } });
    const code = `Moved-${randomUUID()}`;
    await upload(book.id, [{ code }]);
    const { userCoupon } = await issueCode(here, code, "user");
    const order = orderOf(exactMatch ? code : code.toLowerCase(), "user", randomUUID());
    const used = await here.call(useCoupons, order);
    const [{ id: usageId } = { id: "" }] = used.usages;
    await here.call(cancelUsage, { userId: "user", usageId });
    await here.call(UserCouponService.method.deleteUserCoupon, {
      ...{ userId: "user", userCouponId: userCoupon!.id, restock: true },
    });
    expect(await here.call(deleteCodes, { ...to(book.id), codes: [code] })).toMatchObject({ deletedCount: 1 });
    expect(await there.call(useCoupons, order)).toMatchObject({ replayed: true, usages: [{ id: usageId }] });
    const other = await newBook();
    await here.call(uploadCodes, { ...to(other.id), lines: [{ code }] });
    await issueCode(here, code, holder);
    expect(await there.call(useCoupons, order)).toMatchObject({ replayed: true, usages: [{ id: usageId }] });
    // Only so written is it another code, where the book says so.
    const capital = { ...order, coupons: orderOf(code.toUpperCase(), "").coupons };
    const answer = there.call(useCoupons, capital);
    if (exactMatch) expect(await reasonOf(answer)).toBe("REQUEST_ID_REUSED");
    else expect(await answer).toMatchObject({ replayed: true });
  });

  test("a repeated issue of it gets its first answer", async () => {
    const book = await newBook({ claimWindow: durationFromMs(1_000) });
    const code = `Moved-${randomUUID()}`;
    await upload(book.id, [{ code }]);
    const requestId = randomUUID();
    const { userCoupon } = await issueCode(here, code, "user", requestId);
    await until("it is released", async () => (await readCoupon(here, book.id)).remainingCount === 1n);
    expect(await here.call(deleteCodes, { ...to(book.id), codes: [code] })).toMatchObject({ deletedCount: 1 });
    // This replica has not looked it up before.
    const again = (written: string, userId = "user") => issueCode(there, written, userId, requestId);
    const released = { replayed: true, userCoupon: { id: userCoupon!.id, status: UserCouponStatus.RELEASED } };
    expect(await again(code.toLowerCase())).toMatchObject(released);
    expect(await reasonOf(again(`${code}-2`))).toBe("CODE_NOT_FOUND");
    expect(await reasonOf(again(code, "another"))).toBe("CODE_NOT_FOUND");
    const other = await newBook();
    await upload(other.id, [{ code, maxHolders: 2 }]);
    expect(await again(code)).toMatchObject(released);
    expect(await reasonOf(again(code, "another"))).toBe("REQUEST_ID_REUSED");
    await here.call(UserCouponService.method.deleteUserCoupon, { userId: "user", userCouponId: userCoupon!.id });
    expect(await reasonOf(again(code))).toBe("USER_COUPON_NOT_FOUND");
    await expectBookBalances(other.id);
  });
});
