import { randomUUID } from "node:crypto";
import type { DescMethodUnary } from "@bufbuild/protobuf";
import { afterAll, describe, expect, test } from "vitest";
import { CatalogService } from "../../gen/coupon/v1/catalog_service_pb.js";
import { CouponType } from "../../gen/coupon/v1/coupon_pb.js";
import { IssuanceService } from "../../gen/coupon/v1/issuance_service_pb.js";
import { UsageService } from "../../gen/coupon/v1/usage_service_pb.js";
import type { UserCoupon } from "../../gen/coupon/v1/user_coupon_pb.js";
import { UserCouponService } from "../../gen/coupon/v1/user_coupon_service_pb.js";
import { addCodes } from "../support/codes.js";
import { twoReplicas } from "../support/service.js";
import { callJson, cancel, orderMessage, read } from "./checkout.js";
import { answerOf } from "./front-ends.js";
import { createSample, issued, readCoupon, sampleCoupon } from "./samples.js";

const { batchCreateCoupons, createCoupon, listCoupons, searchCoupons, updateCoupon } = CatalogService.method;
const { batchIssueCoupons, issueCoupon } = IssuanceService.method;
const { getUsage, listUsages, useCoupons } = UsageService.method;
const { listUserCoupons } = UserCouponService.method;

const { sql, replicas, clients } = await twoReplicas(afterAll);
const [here, there] = clients;

const labels = { team: "growth", "city.name": "Zürich 🚲", empty: "" };
/** The same, with the last one first: many clients write maps in another order each time. */
const turned = Object.fromEntries(Object.entries(labels).reverse());
const others = { ...labels, team: "sales" };
const byCoupon = (value: string) => ({ case: "couponId" as const, value });
const refusal = (call: Promise<unknown>) => answerOf(call).then(({ code, reason }) => `${code} ${reason}`);
/** The same in every call. */
const fixed = sampleCoupon();
const reused = "INVALID_ARGUMENT REQUEST_ID_REUSED";

describe("labels of a coupon", () => {
  test("are created, read, listed and found", async () => {
    const name = `labelled ${randomUUID()}`;
    const { id, ...created } = await createSample(here, { name, labels });
    expect(created.labels).toEqual(labels);
    expect((await readCoupon(there, id)).labels).toEqual(labels);
    const { coupons } = await there.call(listCoupons, { pageSize: 10 });
    expect(coupons.find((one) => one.id === id)?.labels).toEqual(labels);
    expect((await there.call(searchCoupons, { query: name })).coupons.map((one) => one.labels)).toEqual([labels]);
    const made = await here.call(batchCreateCoupons, { coupons: [sampleCoupon({ labels }), sampleCoupon()] });
    expect(made.outcomes.map(({ outcome }) => outcome.case === "coupon" && outcome.value.labels)).toEqual([labels, {}]);
  });

  test("are replaced as a whole by an update that names them, and left alone by others", async () => {
    const { id } = await createSample(here, { labels });
    const update = async (coupon: { name?: string; labels?: Record<string, string> }, ...paths: string[]) =>
      (await there.call(updateCoupon, { coupon: { id, ...coupon }, updateMask: { paths } })).coupon?.labels;
    expect(await update({ name: "Another", labels: { b: "2" } }, "name")).toEqual(labels);
    expect(await update({ labels: { b: "2" } }, "labels")).toEqual({ b: "2" });
    expect((await readCoupon(here, id)).labels).toEqual({ b: "2" });
    expect(await update({}, "labels")).toEqual({});
    expect((await readCoupon(here, id)).labels).toEqual({});
  });

  test.for([
    [
      "CreateCoupon",
      (given: Record<string, string>, requestId: string) =>
        here.call(createCoupon, { coupon: { ...fixed, labels: given }, requestId }),
    ],
    [
      "BatchCreateCoupons",
      (given: Record<string, string>, requestId: string) =>
        here.call(batchCreateCoupons, { coupons: [{ ...fixed, labels: given }], requestId }),
    ],
  ] as const)("in another order are the same in a repeated %s, and others are not", async ([, call]) => {
    const requestId = randomUUID();
    const first = await call(labels, requestId);
    expect(await call(turned, requestId)).toEqual(first);
    expect(await refusal(call(others, requestId))).toBe(reused);
  });
});

describe("labels of a user coupon", () => {
  test("are answered wherever it is, through every front end", async () => {
    const { id: couponId } = await createSample(here);
    const userId = randomUUID();
    const { userCoupon } = await here.call(issueCoupon, { target: byCoupon(couponId), userId, labels });
    expect(userCoupon?.labels).toEqual(labels);
    expect((await read(there, userId, userCoupon!.id)).labels).toEqual(labels);
    for (const list of [
      there.call(listUserCoupons, { userId }),
      there.call(listUserCoupons, { userId }),
      callJson(replicas[0].httpPort, listUserCoupons, { userId }),
    ])
      expect((await list).userCoupons.map((one) => one.labels)).toEqual([labels]);
  });

  test("in another order are the same request, and others are not, also beside requests without any", async () => {
    const { id: couponId } = await createSample(here, { maxPerUser: 9 });
    const issue = (userId: string, requestId: string, given?: Record<string, string>, client = here) =>
      client.call(issueCoupon, { target: byCoupon(couponId), userId, requestId, ...(given && { labels: given }) });
    const requestId = randomUUID();
    const [first, ...rest] = await Promise.all([
      issue("a", requestId, labels),
      ...Array.from({ length: 10 }, (_, index) => issue(`other ${index}`, "")),
    ]);
    expect([first.replayed, ...rest.map(({ userCoupon }) => Object.keys(userCoupon!.labels).length)]).toEqual([
      false,
      ...Array(10).fill(0),
    ]);
    const second = await issue("a", requestId, turned, there);
    expect(second).toEqual({ ...first, replayed: true });
    for (const client of clients) {
      expect(await refusal(issue("a", requestId, others, client))).toBe(reused);
      expect(await refusal(issue("a", requestId, undefined, client))).toBe(reused);
    }
    const { issuedCount } = await readCoupon(here, couponId);
    expect(issuedCount).toBe(11n);
  });

  test("of a code and of a type are kept, and are part of the request, too", async () => {
    const { id } = await createSample(here, { codeBook: {}, type: CouponType.STANDARD, maxPerUser: 9 });
    const code = `L-${randomUUID()}`;
    await addCodes(sql, id, [{ code }, { code: `${code}-2` }]);
    for (const target of [
      { case: "code" as const, value: code },
      { case: "type" as const, value: CouponType.STANDARD },
    ]) {
      const requestId = randomUUID();
      const issue = (given: Record<string, string>) =>
        there.call(issueCoupon, { target, userId: "anna", requestId, labels: given });
      const { userCoupon } = await issue(labels);
      expect(userCoupon?.labels).toEqual(labels);
      expect(await issue(turned)).toMatchObject({ replayed: true, userCoupon: { id: userCoupon?.id, labels } });
      expect(await refusal(issue({}))).toBe(reused);
    }
  });

  test("are given to each of many users", async () => {
    const { id: couponId } = await createSample(here);
    const requestId = randomUUID();
    const batch = async (given: Record<string, string>) => {
      const { outcomes } = await here.call(batchIssueCoupons, {
        couponId,
        userIds: ["a", "b"],
        requestId,
        labels: given,
      });
      return outcomes.map(({ outcome }) => (outcome.case === "userCoupon" ? outcome.value.labels : outcome.case));
    };
    expect(await batch(labels)).toEqual([labels, labels]);
    expect(await batch(turned)).toEqual([labels, labels]);
    expect(await batch(others)).toEqual(["error", "error"]);
  });
});

describe("a usage", () => {
  const use = (one: Pick<UserCoupon, "id" | "userId">, given?: Record<string, string>, requestId = "", orderId = "o") =>
    here.call(useCoupons, {
      ...orderMessage({ userId: one.userId, coupons: [one.id], orderId }),
      requestId,
      ...(given && { labels: given }),
    });

  test("has the code, and the name and the type that the coupon had then, and labels of its own", async () => {
    const userId = randomUUID();
    const named = { name: "As it was", type: CouponType.FREE, labels: { of: "the coupon" } };
    const { id: couponId } = await createSample(here, { ...named, codeBook: {}, maxUses: 2 });
    const code = `Us-${randomUUID()}`;
    await addCodes(sql, couponId, [{ code }]);
    const held = await issued(here, couponId, userId);
    const { usages } = await use(held, labels);
    const expected = { code, couponName: "As it was", couponType: CouponType.FREE, labels };
    expect(usages).toMatchObject([expected]);
    await there.call(updateCoupon, {
      coupon: { id: couponId, name: "As it is", type: CouponType.STANDARD },
      updateMask: { paths: ["name", "type"] },
    });
    const [usage] = usages;
    expect((await there.call(getUsage, { userId, usageId: usage!.id })).usage).toEqual(usage);
    expect((await there.call(listUsages, { couponId })).usages).toEqual([usage]);
    expect((await read(there, userId, held.id)).usages).toEqual([usage]);
    expect((await there.call(listUserCoupons, { userId, showUsages: true })).userCoupons[0]?.usages).toEqual([usage]);
    expect(await cancel(there, userId, usage!.id)).toMatchObject(expected);
    const now = { code, couponName: "As it is", couponType: CouponType.STANDARD, labels: {} };
    expect((await use(held)).usages).toMatchObject([now]);
  });

  test("of a coupon without codes and type has neither", async () => {
    const held = await issued(here, (await createSample(here)).id, randomUUID());
    const nothing = { code: "", couponType: CouponType.UNSPECIFIED, couponName: "Ten percent", labels: {} };
    expect((await use(held)).usages).toMatchObject([nothing]);
  });

  test("is repeated with labels in another order, and refused with others, of one coupon and of several", async () => {
    for (const count of [1, 3]) {
      const userId = randomUUID();
      const coupons = await Promise.all(Array.from({ length: count }, () => createSample(here, { stackable: true })));
      const held = await Promise.all(coupons.map(({ id }) => issued(here, id, userId)));
      const order = orderMessage({ userId, coupons: held.map(({ id }) => id) });
      const requestId = randomUUID();
      const call = (given: Record<string, string>) => there.call(useCoupons, { ...order, requestId, labels: given });
      const first = await call(labels);
      expect(first.usages.map((one) => one.labels)).toEqual(held.map(() => labels));
      expect(await call(turned)).toEqual({ ...first, replayed: true });
      expect(await refusal(call(others))).toBe(reused);
      expect(await refusal(call({}))).toBe(reused);
    }
  });

  test("that a release stored without them has what can be known: the code, and the coupon as it is now", async () => {
    const userId = randomUUID();
    const { id: couponId } = await createSample(here, {
      name: "Known",
      type: CouponType.FREE,
      codeBook: {},
      maxUses: 3,
    });
    const code = `Old-${randomUUID()}`;
    await addCodes(sql, couponId, [{ code }]);
    const held = await issued(here, couponId, userId);
    const requestId = randomUUID();
    const { usages } = await use(held, {}, requestId, "old");
    const usageId = usages[0]!.id;
    await sql`UPDATE usages SET code = NULL, coupon_name = NULL, coupon_type = NULL, labels = NULL WHERE id = ${usageId}`;
    const { usages: rest } = await use(held, labels, "", "new");
    const known = { code, couponName: "Known", couponType: CouponType.FREE, labels: {} };
    expect((await there.call(getUsage, { userId, usageId })).usage).toMatchObject(known);
    expect((await there.call(listUsages, { userId })).usages).toMatchObject([rest[0]!, known]);
    expect((await read(there, userId, held.id)).usages).toMatchObject([rest[0]!, known]);
    // Whether it had labels is not known, so a repeated call is not refused for them.
    expect(await use(held, labels, requestId, "old")).toMatchObject({ replayed: true, usages: [known] });
    expect(await cancel(here, userId, usageId)).toMatchObject(known);
  });
});

describe("labels that are refused", () => {
  const many = (count: number, value = "v") =>
    Object.fromEntries(Array.from({ length: count }, (_, index) => [`key-${index}`, value]));
  const one = (key: string, value = "v") => ({ [key]: value });
  const wrong: [string, Record<string, string>, RegExp][] = [
    ["17 of them", many(17), /^labels$/],
    ["more than 2,048 bytes together", many(9, "v".repeat(256)), /^labels$/],
    ["a key of 64 characters", one("k".repeat(64)), /^labels/],
    ["no key", one(""), /^labels/],
    ["a key that begins with a sign", one("_key"), /^labels/],
    ["a prototype", JSON.parse('{"__proto__": "v"}'), /^labels$/],
    ["a blank in a key", one("a key"), /^labels/],
    ["a value of 257 characters", one("k", "v".repeat(257)), /^labels/],
    ["a NUL in a value", one("k", "a\0b"), /^labels/],
    ["a line end in a value", one("k", "a\n"), /^labels/],
  ];
  const calls: [string, DescMethodUnary, (labels: Record<string, string>) => object, string][] = [
    ["CreateCoupon", createCoupon, (given) => ({ coupon: sampleCoupon({ labels: given }) }), "coupon."],
    [
      "UpdateCoupon",
      updateCoupon,
      (given) => ({ coupon: { id: randomUUID(), labels: given }, updateMask: { paths: ["labels"] } }),
      "coupon.",
    ],
    ["IssueCoupon", issueCoupon, (given) => ({ target: byCoupon(randomUUID()), userId: "u", labels: given }), ""],
    [
      "BatchIssueCoupons",
      batchIssueCoupons,
      (given) => ({ couponId: randomUUID(), userIds: ["u"], labels: given }),
      "",
    ],
    [
      "UseCoupons",
      useCoupons,
      (given) => ({ ...orderMessage({ userId: "u", coupons: [randomUUID()] }), labels: given }),
      "",
    ],
  ];
  for (const [name, method, requestOf, prefix] of calls) {
    test.for(wrong)(`${name}: %s`, async ([what, given, field]) => {
      // Which coupon is edited is found out first, and that is the answer.
      if (name === "UpdateCoupon" && what.startsWith("more than")) return;
      const answer = await answerOf(here.call(method, requestOf(given) as never));
      expect(answer.reason).toBe("INVALID_FIELD");
      for (const violated of answer.fields) expect(violated.replace(prefix, "")).toMatch(field);
      expect(answer.fields.length).toBeGreaterThan(0);
    });
  }

  test("an update with too much is refused, and changes nothing", async () => {
    const { id } = await createSample(here, { labels });
    const coupon = { id, labels: many(9, "v".repeat(256)) };
    const answer = await answerOf(here.call(updateCoupon, { coupon, updateMask: { paths: ["labels"] } }));
    expect(answer).toMatchObject({ reason: "INVALID_FIELD", fields: ["coupon.labels"] });
    expect((await readCoupon(here, id)).labels).toEqual(labels);
  });

  test("as much as may be is not", async () => {
    const most = { ...many(7, "v".repeat(256)), ["k".repeat(63)]: "é".repeat(72) };
    const { id: couponId } = await createSample(here, { labels: most });
    const { userCoupon } = await here.call(issueCoupon, { target: byCoupon(couponId), userId: "most", labels: most });
    const request = { ...orderMessage({ userId: "most", coupons: [userCoupon!.id] }), labels: many(16) };
    expect((await here.call(useCoupons, request)).usages[0]?.labels).toEqual(many(16));
    expect((await read(there, "most", userCoupon!.id)).coupon?.labels).toEqual(most);
  });
});
