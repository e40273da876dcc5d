import { type DescMethodUnary, fromJson, type JsonValue, toBinary } from "@bufbuild/protobuf";
import { afterAll, describe, expect, test } from "vitest";
import { CatalogService } from "../../gen/coupon/v1/catalog_service_pb.js";
import { IssuanceService } from "../../gen/coupon/v1/issuance_service_pb.js";
import { UsageService } from "../../gen/coupon/v1/usage_service_pb.js";
import { oneReplica } from "../support/service.js";
import { callConnect, callNative, pathOf } from "./front-ends.js";
import { createSample } from "./samples.js";

const { createCoupon, getCoupon, updateCoupon, listCoupons, searchCoupons, generateCodes, uploadCodes } =
  CatalogService.method;
const { issueCoupon } = IssuanceService.method;
const { useCoupons, lockCoupons, unlockCoupons, cancelUsage, listUsages } = UsageService.method;

const { replica } = await oneReplica(afterAll);

const someId = "0192f0c1-7e6a-7bcd-8123-456789abcdef";
const good = { name: "Ten percent", discount: { percentageBasisPoints: 1_000 }, expireTime: "2100-01-01T00:00:00Z" };
const money = (minorUnits: JsonValue, currencyCode = "USD") => ({ currencyCode, minorUnits });
const order = {
  ...{ userId: "u", coupons: [{ userCouponId: someId }], productId: "p", orderId: "o" },
  orderAmount: money("1000"),
};
const json = (method: DescMethodUnary, message: JsonValue) =>
  callConnect(replica.httpPort, pathOf(method), JSON.stringify(message));
const create = (fields: Record<string, JsonValue>) => json(createCoupon, { coupon: { ...good, ...fields } });

describe("what JSON says in a way that means nothing, or is not what would be kept", () => {
  const badTimes = [
    ...["2027-02-29T00:00:00Z", "2027-02-30T00:00:00Z", "2100-02-29T00:00:00Z", "2027-04-31T00:00:00Z"],
    ...["2027-13-01T00:00:00Z", "2027-00-01T00:00:00Z", "2027-01-00T00:00:00Z", "2027-01-32T00:00:00Z"],
    ...["2027-01-01T24:00:00Z", "2027-01-01T23:60:00Z", "2027-01-01T23:59:60Z", "2027-01-01T23:59:61Z"],
    ...["2027-01-01T00:00:00", "2027-01-01", "2027-01-01 00:00:00Z", "2027-01-01T00:00:00z", "2027-1-1T0:0:0Z"],
    ...["2027-01-01T00:00:00+24:00", "2027-01-01T00:00:00+01:60", "2027-01-01T00:00:00+0100", "2027-01-01T00:00Z"],
    ...["2027-01-01T00:00:00.1234567891Z", "2027-01-01T00:00:00.Z", "2027-01-01T00:00:00Z.", " 2027-01-01T00:00:00Z"],
  ];
  test.for(badTimes)("the time %s", async (expireTime) => {
    const answer = await create({ expireTime });
    expect([answer.reason, answer.fields]).toEqual(["INVALID_FIELD", ["coupon.expire_time"]]);
  });

  const goodTimes = ["2096-02-29T23:59:59.999999999Z", "2400-02-29T00:00:00+23:59", "2100-12-31T00:00:00-01:30"];
  test.for(goodTimes)("but not the time %s", async (expireTime) => {
    expect((await create({ expireTime })).code).toBe("OK");
  });

  const badIntegers: JsonValue[] = [
    ...[
      "0x10",
      "0X10",
      "0b1",
      "0o7",
      "",
      " ",
      " 10",
      "10 ",
      "1_000",
      "1,000",
      "+5",
      "1e",
      "e3",
      "1.5",
      "1e-1",
      "15e-1",
    ],
    ...["Infinity", "NaN", "ten", "1n", "٣", "9".repeat(41), "1e99", 1.5, true, {}, []],
  ];
  test.for(badIntegers.map((value) => ({ value })))("the whole number $value", async ({ value }) => {
    const answer = await create({ quantity: value, maxPerUser: value });
    expect([answer.reason, answer.fields]).toEqual(["INVALID_FIELD", ["coupon.quantity", "coupon.max_per_user"]]);
    const use = await json(useCoupons, { ...order, orderAmount: money(value) });
    expect([use.reason, use.fields]).toEqual(["INVALID_FIELD", ["order_amount.minor_units"]]);
  });

  const goodIntegers: [JsonValue, string][] = [
    ["1e2", "100"],
    ["1.0E+1", "10"],
    ["1500e-2", "15"],
    ["2.50e1", "25"],
    ["0042", "42"],
    [1e2, "100"],
  ];
  test.for(goodIntegers)("but not the whole number %s", async ([value, expected]) => {
    const response = await fetch(`http://127.0.0.1:${replica.httpPort}${pathOf(createCoupon)}`, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ coupon: { ...good, quantity: value, maxPerUser: value } }),
    });
    const { coupon } = (await response.json()) as { coupon: { quantity: string; maxPerUser: number } };
    expect([coupon.quantity, String(coupon.maxPerUser)]).toEqual([expected, expected]);
  });

  test("a number past 2^53 that is no text, which JSON has rounded", async () => {
    const body = `{"coupon":${JSON.stringify(good).slice(0, -1)},"revision":9007199254740993}}`;
    const answer = await callConnect(replica.httpPort, pathOf(createCoupon), body);
    expect([answer.reason, answer.fields]).toEqual(["INVALID_FIELD", ["coupon.revision"]]);
    expect((await create({ revision: "9007199254740993" })).code).toBe("OK");
  });

  const badDurations = [
    "1.0000000001s",
    "1s ago",
    "1",
    "1m",
    "s",
    "+1s",
    "1.s",
    ".5s",
    "0x1s",
    "1e1s",
    " 1s",
    "1s ",
    "--1s",
  ];
  test.for(badDurations)("the duration %s", async (lockDuration) => {
    const answer = await create({ lockDuration });
    expect([answer.reason, answer.fields]).toEqual(["INVALID_FIELD", ["coupon.lock_duration"]]);
  });

  test("a duration with more than milliseconds, which the service does not keep", async () => {
    const answer = await create({ lockDuration: "1.0001s", claimWindow: "1.000000001s" });
    expect([answer.reason, answer.fields]).toEqual(["INVALID_FIELD", ["coupon.lock_duration", "coupon.claim_window"]]);
  });

  test("a word that an enum does not have: those that it has are told", async () => {
    const ofCoupon = await create({ type: "MEGADEAL" });
    expect([ofCoupon.reason, ofCoupon.fields]).toEqual(["INVALID_FIELD", ["coupon.type"]]);
    for (const word of ["UNSPECIFIED", "FREE", "STANDARD", "MEGADEAL"]) {
      expect(ofCoupon.message).toContain(`COUPON_TYPE_${word}`);
    }
    const ofIssue = await json(issueCoupon, { type: "free", userId: "u" });
    expect([ofIssue.reason, ofIssue.fields]).toEqual(["INVALID_FIELD", ["type"]]);
    expect(ofIssue.message).toContain("COUPON_TYPE_FREE, COUPON_TYPE_STANDARD, COUPON_TYPE_MEGADEAL");
    expect(ofIssue.message).not.toContain("UNSPECIFIED");
  });

  test("such a time among thousands of lines", async () => {
    const { id: couponId } = await createSample(replica.client, { codeBook: {} });
    const lines: JsonValue[] = Array.from({ length: 3_000 }, (_, n) => ({
      code: `AMONG${n}`,
      terms: { expireTime: "2100-01-01T00:00:00Z", maxUses: 1 },
    }));
    lines[2_345] = { code: "WRONG", terms: { expireTime: "2099-02-29T00:00:00Z", maxUses: "0x1" } };
    const answer = await json(uploadCodes, { couponId, lines });
    expect([answer.reason, answer.fields]).toEqual([
      "INVALID_FIELD",
      ["lines[2345].terms.expire_time", "lines[2345].terms.max_uses"],
    ]);
  });
});

describe("an update mask in JSON", () => {
  test.for(["start_time,max_per_user", "startTime,maxPerUser", "start_time,maxPerUser"])(
    "has its paths as the proto file has them, or as JSON has fields: %s",
    async (updateMask) => {
      const { id } = await createSample(replica.client);
      const coupon = { id, startTime: "2000-02-29T00:00:00Z", maxPerUser: 7 };
      expect((await json(updateCoupon, { coupon, updateMask })).code).toBe("OK");
      const { coupon: updated } = await replica.client.call(getCoupon, { couponId: id });
      expect([updated?.maxPerUser, updated?.startTime?.seconds]).toEqual([7, 951_782_400n]);
    },
  );

  test.for(["start__time", "_", "name_", "start_Time", "name,colour_of"])(
    "is refused with a path that is none: %s",
    async (updateMask) => {
      const answer = await json(updateCoupon, { coupon: { ...good, id: someId }, updateMask });
      expect([answer.reason, answer.fields]).toEqual(["INVALID_FIELD", ["update_mask"]]);
    },
  );
});

/** Whatever finds them: the rules of the proto file, or the domain. In the order of the proto file. */
const rows: { what: string; method: DescMethodUnary; message: JsonValue; fields: string[] }[] = [
  {
    what: "a coupon wrong by rule and by domain",
    method: createCoupon,
    message: {
      requestId: "a b",
      coupon: {
        ...{ maxUses: 0, quantity: "0", lockDuration: "1.0001s", expireTime: "1999-01-01T00:00:00Z" },
        ...{ discount: { fixedAmount: money(0, "XXQ"), maximumAmount: money("-1") }, name: " ", description: "\0" },
      },
    },
    fields: [
      "coupon.name",
      "coupon.description",
      "coupon.discount.fixed_amount.currency_code",
      "coupon.discount.fixed_amount.minor_units",
      "coupon.discount.maximum_amount",
      "coupon.discount.maximum_amount.minor_units",
      "coupon.expire_time",
      "coupon.quantity",
      "coupon.max_uses",
      "coupon.lock_duration",
      "request_id",
    ],
  },
  {
    what: "a coupon without anything",
    method: createCoupon,
    message: { coupon: {} },
    fields: ["coupon.name", "coupon.discount", "coupon.expire_time"],
  },
  {
    what: "a start that cannot be, of which the end's place is not known",
    method: createCoupon,
    message: { coupon: { ...good, startTime: "1969-01-01T00:00:00Z", expireTime: "1999-01-01T00:00:00Z", maxUses: 0 } },
    fields: ["coupon.start_time", "coupon.max_uses"],
  },
  {
    what: "an update wrong in its id, its mask, a rule and the domain",
    method: updateCoupon,
    message: {
      coupon: { id: "x", name: " ", maxUses: 0, discount: { fixedAmount: money(5, "XXQ") } },
      updateMask: "name,colour,discount,maxUses",
      requestId: "\n",
    },
    fields: [
      ...["coupon.id", "coupon.name", "coupon.discount.fixed_amount.currency_code", "coupon.max_uses"],
      ...["update_mask", "request_id"],
    ],
  },
  {
    what: "fields outside of the mask, of which only the rules are looked at",
    method: updateCoupon,
    message: { coupon: { id: someId, name: "", quota: { group: "a b", maxPerDay: 1 } }, updateMask: "stackable" },
    fields: ["coupon.quota.group"],
  },
  {
    what: "an order wrong by rule and by domain",
    method: useCoupons,
    message: {
      ...order,
      userId: "",
      coupons: [{ userCouponId: someId }, { userCouponId: "x" }, { userCouponId: someId }, {}, {}],
      orderAmount: money("-1", "XXQ"),
    },
    fields: [
      ...[
        "user_id",
        "coupons[1].user_coupon_id",
        "coupons[2].user_coupon_id",
        "coupons[3].target",
        "coupons[4].target",
      ],
      ...["order_amount.currency_code", "order_amount.minor_units"],
    ],
  },
  {
    what: "a lock of nobody in no currency",
    method: lockCoupons,
    message: { ...order, userId: "", orderAmount: money(1, "XXQ") },
    fields: ["user_id", "order_amount.currency_code"],
  },
  {
    what: "an unlock of nobody, without a version",
    method: unlockCoupons,
    message: { coupons: [{ code: "A" }, { code: "A", lockVersion: "1" }] },
    fields: ["user_id", "coupons[0].lock_version", "coupons[1].code"],
  },
  {
    what: "nobody's cancellation of nothing",
    method: cancelUsage,
    message: { requestId: "a b" },
    fields: ["user_id", "usage_id", "request_id"],
  },
  {
    what: "a cancellation of two things, one of which is none",
    method: cancelUsage,
    message: { userId: "u", usageId: "x", userCouponId: someId },
    fields: ["usage_id", "user_coupon_id"],
  },
  {
    what: "a page",
    method: listCoupons,
    message: { pageSize: -1, pageToken: "garbage" },
    fields: ["page_size", "page_token"],
  },
  {
    what: "a page of usages",
    method: listUsages,
    message: { couponId: "x", pageSize: 1_001, pageToken: "garbage" },
    fields: ["coupon_id", "page_size", "page_token"],
  },
  {
    what: "a search",
    method: searchCoupons,
    message: { query: "\0", category: "x".repeat(101), pageSize: 101, pageToken: "garbage" },
    fields: ["query", "category", "page_size", "page_token"],
  },
  {
    what: "codes to generate",
    method: generateCodes,
    message: { couponId: "x", pattern: "[", count: 0, terms: { maxUses: 0, discount: {} }, requestId: "\n" },
    fields: ["coupon_id", "pattern", "count", "terms.discount.kind", "terms.max_uses", "request_id"],
  },
  {
    what: "20 choices of which, with the user, the error has room for 20",
    method: useCoupons,
    message: { coupons: Array.from({ length: 20 }, () => ({})), orderAmount: money("-1") },
    fields: ["user_id", ...Array.from({ length: 19 }, (_, n) => `coupons[${n}].target`)],
  },
];

describe("all wrong fields are named at once, in the order of the proto file", () => {
  test.for(rows)("$what", async ({ method, message, fields }) => {
    const bytes = toBinary(method.input, fromJson(method.input, message));
    const native = await callNative(replica.client, method, bytes);
    expect([native.reason, native.fields]).toEqual(["INVALID_FIELD", fields]);
    const overHttp = await json(method, message);
    expect([overHttp.reason, overHttp.fields]).toEqual(["INVALID_FIELD", fields]);
  });

  test("those that cannot be read among them, and nothing that only follows from those", async () => {
    const answer = await json(createCoupon, {
      coupon: {
        ...{ expireTime: "1999-01-01T00:00:00Z", startTime: "1998-02-30T00:00:00Z", name: " ", stackable: "yes" },
        ...{ discount: { percentageBasisPoints: "0x10" }, quantity: "-1", colour: "red", type: "free" },
        throttle: { maxConcurrent: 5, maxPerSecond: 0, maxWait: "10" },
      },
      requestId: "a b",
    });
    expect([answer.reason, answer.fields]).toEqual([
      "INVALID_FIELD",
      [
        ...["coupon.name", "coupon.discount.percentage_basis_points", "coupon.start_time", "coupon.quantity"],
        ...["coupon.stackable", "coupon.type", "coupon.throttle.max_per_second", "coupon.throttle.max_wait"],
        ...["coupon.colour", "request_id"],
      ],
    ]);
  });

  test("of an order, items that cannot be read among others", async () => {
    const answer = await json(useCoupons, {
      ...order,
      coupons: [{ userCouponId: 5 }, "x", { userCouponId: "y" }, { userCouponId: someId, lockVersion: "0x1" }],
      orderAmount: money("1", "XXQ"),
    });
    expect([answer.reason, answer.fields]).toEqual([
      "INVALID_FIELD",
      [
        ...["coupons[0].user_coupon_id", "coupons[1]", "coupons[2].user_coupon_id", "coupons[3].lock_version"],
        "order_amount.currency_code",
      ],
    ]);
  });

  test("of 30 unknown fields the first 20", async () => {
    const unknown = Object.fromEntries(Array.from({ length: 30 }, (_, n) => [`colour${n}`, n]));
    const answer = await json(getCoupon, unknown);
    expect(answer.fields).toEqual(Object.keys(unknown).slice(0, 20));
  });

  test("of one coupon of many", async () => {
    const response = await fetch(
      `http://127.0.0.1:${replica.httpPort}${pathOf(CatalogService.method.batchCreateCoupons)}`,
      {
        method: "POST",
        headers: { "content-type": "application/json" },
        body: JSON.stringify({ coupons: [good, { ...good, maxUses: 0, name: " ", quantity: "0" }] }),
      },
    );
    const { outcomes } = (await response.json()) as { outcomes: { error?: { fields: { field: string }[] } }[] };
    expect(outcomes.map(({ error }) => error?.fields.map(({ field }) => field))).toEqual([
      undefined,
      ["coupon.name", "coupon.quantity", "coupon.max_uses"],
    ]);
  });
});
