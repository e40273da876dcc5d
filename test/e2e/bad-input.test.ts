import { randomBytes } from "node:crypto";
import { request as httpRequest } from "node:http";
import { brotliCompressSync, gzipSync } from "node:zlib";
import { create, type DescMethodUnary, fromJson, type JsonValue, toBinary } from "@bufbuild/protobuf";
import * as grpc from "@grpc/grpc-js";
import { afterAll, describe, expect, test } from "vitest";
import { CatalogService, CreateCouponRequestSchema } from "../../gen/coupon/v1/catalog_service_pb.js";
import { IssuanceService, IssueCouponRequestSchema } from "../../gen/coupon/v1/issuance_service_pb.js";
import { UsageService } from "../../gen/coupon/v1/usage_service_pb.js";
import { ListUserCouponsRequestSchema, UserCouponService } from "../../gen/coupon/v1/user_coupon_service_pb.js";
import { oneReplica } from "../support/service.js";
import { until } from "../support/until.js";
import { use } from "./checkout.js";
import { type Answer, callConnect, callGrpcWeb, callNative, envelope, pathOf, readConnect } from "./front-ends.js";
import { type CouponInit, createSample, issue, issued, sampleCoupon } from "./samples.js";

const {
  createCoupon,
  getCoupon,
  listCoupons,
  updateCoupon,
  deleteCoupon,
  pauseCoupon,
  resumeCoupon,
  batchCreateCoupons,
} = CatalogService.method;
const { issueCoupon, batchIssueCoupons } = IssuanceService.method;
const { getUserCoupon, listUserCoupons, deleteUserCoupon } = UserCouponService.method;
const { quoteUsage, lockCoupons, unlockCoupons, useCoupons, cancelUsage, getUsage, listUsages } = UsageService.method;

const someId = "0192f0c1-7e6a-7bcd-8123-456789abcdef";
const tomorrow = new Date(Date.now() + 86_400_000).toISOString();
const yesterday = new Date(Date.now() - 86_400_000).toISOString();
const good = { name: "Ten percent", discount: { percentageBasisPoints: 1_000 }, expireTime: tomorrow };
const usd = (minorUnits: number | string, currencyCode = "USD") => ({ currencyCode, minorUnits });

const { replica } = await oneReplica(afterAll);

interface Row {
  readonly what: string;
  readonly method: DescMethodUnary;
  /** Sent as it is over HTTP, and as a message over native gRPC. */
  readonly json: JsonValue;
  /** The paths that BadRequest must name, in any order. */
  readonly fields: readonly string[];
}

const coupon = (what: string, fields: Record<string, JsonValue>, ...wrong: string[]): Row => ({
  what,
  method: createCoupon,
  json: { coupon: { ...good, ...fields } },
  fields: wrong,
});

/** Fields of a coupon that are out of their range, one by one and together. */
const couponRows: Row[] = [
  coupon("an empty name", { name: "" }, "coupon.name"),
  coupon("a name of blanks", { name: "   " }, "coupon.name"),
  coupon("a name of 201 characters", { name: "x".repeat(201) }, "coupon.name"),
  coupon("a description of 4,001 characters", { description: "x".repeat(4_001) }, "coupon.description"),
  coupon("a category of 101 characters", { category: "x".repeat(101) }, "coupon.category"),
  coupon("a NUL in the name", { name: "a\0b" }, "coupon.name"),
  coupon("a NUL in the description", { description: "\0" }, "coupon.description"),
  coupon("a NUL in the category", { category: "\0" }, "coupon.category"),
  coupon("no discount", { discount: null }, "coupon.discount"),
  coupon("a discount of no kind", { discount: {} }, "coupon.discount.kind"),
  coupon("0 basis points", { discount: { percentageBasisPoints: 0 } }, "coupon.discount.percentage_basis_points"),
  coupon("-1 basis points", { discount: { percentageBasisPoints: -1 } }, "coupon.discount.percentage_basis_points"),
  coupon(
    "20,000 basis points",
    { discount: { percentageBasisPoints: 20_000 } },
    "coupon.discount.percentage_basis_points",
  ),
  coupon(
    "an unknown currency",
    { discount: { fixedAmount: usd(500, "XXQ") } },
    "coupon.discount.fixed_amount.currency_code",
  ),
  coupon(
    "a currency in small letters",
    { discount: { fixedAmount: usd(500, "usd") } },
    "coupon.discount.fixed_amount.currency_code",
  ),
  coupon(
    "no currency",
    { discount: { fixedAmount: { minorUnits: "5" } } },
    "coupon.discount.fixed_amount.currency_code",
  ),
  coupon(
    "a fixed amount of nothing",
    { discount: { fixedAmount: usd(0) } },
    "coupon.discount.fixed_amount.minor_units",
  ),
  coupon("a negative fixed amount", { discount: { fixedAmount: usd(-1) } }, "coupon.discount.fixed_amount.minor_units"),
  coupon(
    "a fixed amount past 10^15",
    { discount: { fixedAmount: usd("1000000000000001") } },
    "coupon.discount.fixed_amount.minor_units",
  ),
  coupon(
    "the largest int64 as an amount",
    { discount: { fixedAmount: usd("9223372036854775807") } },
    "coupon.discount.fixed_amount.minor_units",
  ),
  coupon(
    "two currencies",
    { discount: { fixedAmount: usd(500), minimumOrderAmount: usd(1_000, "EUR") } },
    "coupon.discount.minimum_order_amount.currency_code",
  ),
  coupon(
    "a ceiling on a fixed amount",
    { discount: { fixedAmount: usd(500), maximumAmount: usd(100) } },
    "coupon.discount.maximum_amount",
  ),
  coupon(
    "a ceiling of nothing",
    { discount: { percentageBasisPoints: 10, maximumAmount: usd(0) } },
    "coupon.discount.maximum_amount.minor_units",
  ),
  coupon(
    "a negative minimum order",
    { discount: { percentageBasisPoints: 10, minimumOrderAmount: usd(-1) } },
    "coupon.discount.minimum_order_amount.minor_units",
  ),
  coupon("no expire time", { expireTime: null }, "coupon.expire_time"),
  coupon("an end before the start", { startTime: tomorrow, expireTime: yesterday }, "coupon.expire_time"),
  coupon("an end at the start", { startTime: tomorrow, expireTime: tomorrow }, "coupon.expire_time"),
  coupon("an end in the past, with no start", { expireTime: yesterday }, "coupon.expire_time"),
  coupon("a start before 1970", { startTime: "1969-12-31T23:59:59Z" }, "coupon.start_time"),
  coupon("an expire time in the year 1", { expireTime: "0001-01-01T00:00:00Z" }, "coupon.expire_time"),
  coupon("a quantity of 0", { quantity: "0" }, "coupon.quantity"),
  coupon("a negative quantity", { quantity: "-1" }, "coupon.quantity"),
  coupon("a quantity of 10^13", { quantity: "10000000000000" }, "coupon.quantity"),
  coupon("a usage cap of 0", { usageCap: "0" }, "coupon.usage_cap"),
  coupon("a usage cap of 10^13", { usageCap: "10000000000000" }, "coupon.usage_cap"),
  coupon("a negative usage cap", { usageCap: "-1" }, "coupon.usage_cap"),
  coupon("0 uses", { maxUses: 0 }, "coupon.max_uses"),
  coupon("-1 uses", { maxUses: -1 }, "coupon.max_uses"),
  coupon("1,001 uses", { maxUses: 1_001 }, "coupon.max_uses"),
  coupon("a lock of 0", { lockDuration: "0s" }, "coupon.lock_duration"),
  coupon("a lock of 999 ms", { lockDuration: "0.999s" }, "coupon.lock_duration"),
  coupon("a negative lock", { lockDuration: "-1s" }, "coupon.lock_duration"),
  coupon("a lock of a day and a millisecond", { lockDuration: "86400.001s" }, "coupon.lock_duration"),
  coupon("a lock with microseconds", { lockDuration: "1.000001s" }, "coupon.lock_duration"),
  coupon("a claim window of 0", { claimWindow: "0s" }, "coupon.claim_window"),
  coupon("a claim window of 999 ms", { claimWindow: "0.999s" }, "coupon.claim_window"),
  coupon("a negative claim window", { claimWindow: "-1s" }, "coupon.claim_window"),
  coupon("a claim window of 366 days", { claimWindow: "31622400s" }, "coupon.claim_window"),
  coupon("a claim window with microseconds", { claimWindow: "1.000001s" }, "coupon.claim_window"),
  coupon(
    "everything about using wrong at once",
    { maxUses: 0, lockDuration: "0s", claimWindow: "0s", usageCap: "0" },
    "coupon.max_uses",
    "coupon.lock_duration",
    "coupon.claim_window",
    "coupon.usage_cap",
  ),
  coupon("0 for each user", { maxPerUser: 0 }, "coupon.max_per_user"),
  coupon("101 for each user", { maxPerUser: 101 }, "coupon.max_per_user"),
  coupon("a validity of 0", { validityAfterIssue: "0s" }, "coupon.validity_after_issue"),
  coupon("a negative validity", { validityAfterIssue: "-60s" }, "coupon.validity_after_issue"),
  coupon("a validity of 999 ms", { validityAfterIssue: "0.999s" }, "coupon.validity_after_issue"),
  coupon("a validity of 3,651 days", { validityAfterIssue: "315446400s" }, "coupon.validity_after_issue"),
  coupon("a validity with microseconds", { validityAfterIssue: "1.000001s" }, "coupon.validity_after_issue"),
  coupon("a negative revision", { revision: "-1" }, "coupon.revision"),
  coupon(
    "everything wrong at once, by range",
    { name: "x".repeat(201), discount: { percentageBasisPoints: 0 }, quantity: "-1", maxPerUser: 0 },
    "coupon.name",
    "coupon.discount.percentage_basis_points",
    "coupon.quantity",
    "coupon.max_per_user",
  ),
  coupon(
    "everything wrong at once, by rule",
    { name: "", discount: { fixedAmount: usd(0, "XXQ") }, expireTime: yesterday, quantity: "0" },
    "coupon.name",
    "coupon.discount.fixed_amount.currency_code",
    "coupon.discount.fixed_amount.minor_units",
    "coupon.expire_time",
    "coupon.quantity",
  ),
];

const otherId = "0192f0c1-7e6a-7bcd-8123-456789abcde0";
const chosen = (userCouponId: string) => ({ userCouponId, lockVersion: "1" });
const order = { userId: "u", coupons: [chosen(someId)], productId: "p", orderId: "o", orderAmount: usd(1_000) };
/** What names user coupons, with a good request of each. */
const orders: [DescMethodUnary, Record<string, JsonValue>][] = [
  [quoteUsage, order],
  [lockCoupons, order],
  [useCoupons, order],
  [unlockCoupons, { userId: "u", coupons: [chosen(someId)] }],
];
const priced = orders.slice(0, 3);

const badUuids: [string, string][] = [
  ["an empty id", ""],
  ["an id that is no UUID", "not-a-uuid"],
  ["a UUID that is too short", someId.slice(1)],
  ["a UUID that is too long", `${someId}0`],
  ["a UUID without hyphens", someId.replaceAll("-", "")],
  ["a UUID with a line end", `${someId}\n`],
  ["a UUID with a letter past f", someId.replace("c", "g")],
  ["an id with a NUL", `${someId.slice(1)}\0`],
  ["an id of 10,000 characters", "a".repeat(10_000)],
  ["an id that is SQL", "' OR 1=1 --"],
];

const uuidFields: [DescMethodUnary, (id: string) => JsonValue, string][] = [
  [getCoupon, (couponId) => ({ couponId }), "coupon_id"],
  [updateCoupon, (id) => ({ coupon: { ...good, id }, updateMask: "name" }), "coupon.id"],
  [deleteCoupon, (couponId) => ({ couponId }), "coupon_id"],
  [pauseCoupon, (couponId) => ({ couponId }), "coupon_id"],
  [resumeCoupon, (couponId) => ({ couponId }), "coupon_id"],
  [issueCoupon, (couponId) => ({ couponId, userId: "u" }), "coupon_id"],
  [getUserCoupon, (userCouponId) => ({ userCouponId, userId: "u" }), "user_coupon_id"],
  [deleteUserCoupon, (userCouponId) => ({ userCouponId, userId: "u" }), "user_coupon_id"],
  ...orders.map(([method, json]): [DescMethodUnary, (id: string) => JsonValue, string] => [
    method,
    (id) => ({ ...json, coupons: [chosen(someId), chosen(id)] }),
    "coupons[1].user_coupon_id",
  ]),
  [cancelUsage, (usageId) => ({ usageId, userId: "u" }), "usage_id"],
  [getUsage, (usageId) => ({ usageId, userId: "u" }), "usage_id"],
];

const badUserIds: [string, string][] = [
  ["an empty user id", ""],
  ["a user id of 129 characters", "u".repeat(129)],
  ["a user id with a NUL", "a\0b"],
  ["a user id with a line end", "user\n"],
  ["a user id with the separator of the gate", "a\u001fb"],
  ["a user id with the other separator", "a\u001eb"],
  ["a user id with a DEL", "a\u007f"],
];

const userFields: [DescMethodUnary, (userId: string) => JsonValue][] = [
  [issueCoupon, (userId) => ({ couponId: someId, userId })],
  [getUserCoupon, (userId) => ({ userCouponId: someId, userId })],
  [listUserCoupons, (userId) => ({ userId })],
  [deleteUserCoupon, (userId) => ({ userCouponId: someId, userId })],
  ...orders.map(([method, json]): [DescMethodUnary, (userId: string) => JsonValue] => [
    method,
    (userId) => ({ ...json, userId }),
  ]),
  [cancelUsage, (userId) => ({ usageId: someId, userId })],
  [getUsage, (userId) => ({ usageId: someId, userId })],
];

/** The caller's own names for products and orders: as those of users, but where they are not required. */
const nameFields: [DescMethodUnary, (name: string) => JsonValue, string, boolean][] = [
  ...priced.flatMap(([method, json]): [DescMethodUnary, (name: string) => JsonValue, string, boolean][] => [
    [method, (productId) => ({ ...json, productId }), "product_id", method === useCoupons],
    [method, (orderId) => ({ ...json, orderId }), "order_id", method === useCoupons],
  ]),
  [listUsages, (productId) => ({ productId }), "product_id", false],
  [listUsages, (orderId) => ({ orderId }), "order_id", false],
  [listUsages, (userId) => ({ userId }), "user_id", false],
];

const badRequestIds: [string, string][] = [
  ["a request id of 65 characters", "r".repeat(65)],
  ["a request id with a blank", "a b"],
  ["a request id with a line end", "a\n"],
  ["a request id past ASCII", "é"],
  ["a request id with a NUL", "\0"],
];

const requestIdFields: [DescMethodUnary, (requestId: string) => JsonValue][] = [
  [createCoupon, (requestId) => ({ coupon: good, requestId })],
  [updateCoupon, (requestId) => ({ coupon: { ...good, id: someId }, updateMask: "name", requestId })],
  [deleteCoupon, (requestId) => ({ couponId: someId, requestId })],
  [pauseCoupon, (requestId) => ({ couponId: someId, requestId })],
  [resumeCoupon, (requestId) => ({ couponId: someId, requestId })],
  [issueCoupon, (requestId) => ({ couponId: someId, userId: "u", requestId })],
  [deleteUserCoupon, (requestId) => ({ userCouponId: someId, userId: "u", requestId })],
  [lockCoupons, (requestId) => ({ ...order, requestId })],
  [unlockCoupons, (requestId) => ({ userId: "u", coupons: [chosen(someId)], requestId })],
  [useCoupons, (requestId) => ({ ...order, requestId })],
  [cancelUsage, (requestId) => ({ usageId: someId, userId: "u", requestId })],
];

const lists: [DescMethodUnary, Record<string, JsonValue>][] = [
  [listCoupons, {}],
  [listUserCoupons, { userId: "u" }],
  [listUsages, {}],
];

const idRows: Row[] = [
  ...uuidFields.flatMap(([method, json, field]) =>
    badUuids.map(([what, id]) => ({ what, method, json: json(id), fields: [field] })),
  ),
  ...userFields.flatMap(([method, json]) =>
    badUserIds.map(([what, id]) => ({ what, method, json: json(id), fields: ["user_id"] })),
  ),
  ...requestIdFields.flatMap(([method, json]) =>
    badRequestIds.map(([what, id]) => ({ what, method, json: json(id), fields: ["request_id"] })),
  ),
];

const nameRows: Row[] = nameFields.flatMap(([method, json, field, isRequired]) =>
  badUserIds
    .filter(([, name]) => isRequired || name !== "")
    .map(([what, name]) => ({ what: `${what} as its ${field}`, method, json: json(name), fields: [field] })),
);

/** Amounts of orders. */
const badAmounts: [string, JsonValue, string][] = [
  ["an unknown currency", usd(1, "XXQ"), "order_amount.currency_code"],
  ["a withdrawn currency", usd(1, "DEM"), "order_amount.currency_code"],
  ["a currency in small letters", usd(1, "usd"), "order_amount.currency_code"],
  ["no currency", { minorUnits: "1" }, "order_amount.currency_code"],
  ["a currency with a NUL", usd(1, "US\0"), "order_amount.currency_code"],
  ["a negative amount", usd(-1), "order_amount.minor_units"],
  ["an amount past 10^15", usd("1000000000000001"), "order_amount.minor_units"],
  ["the largest int64 as an amount", usd("9223372036854775807"), "order_amount.minor_units"],
  ["the smallest int64 as an amount", usd("-9223372036854775808"), "order_amount.minor_units"],
];

/** Different ones. */
const manyIds = (count: number) =>
  Array.from({ length: count }, (_, n) => chosen(`${someId.slice(0, -3)}${n.toString(16).padStart(3, "0")}`));

const orderRows: Row[] = [
  ...orders.flatMap(([method, json]): Row[] => [
    { what: "no user coupon", method, json: { ...json, coupons: [] }, fields: ["coupons"] },
    { what: "21 user coupons", method, json: { ...json, coupons: manyIds(21) }, fields: ["coupons"] },
    { what: "200 user coupons", method, json: { ...json, coupons: manyIds(200) }, fields: ["coupons"] },
    {
      what: "a user coupon twice, once in capitals",
      method,
      json: { ...json, coupons: [chosen(someId), chosen(otherId), chosen(someId.toUpperCase())] },
      fields: ["coupons[2].user_coupon_id"],
    },
    {
      what: "a user coupon three times",
      method,
      json: { ...json, coupons: [chosen(someId), chosen(someId), chosen(someId)] },
      fields: ["coupons[1].user_coupon_id", "coupons[2].user_coupon_id"],
    },
    {
      ...{ what: "a choice of nothing", method, json: { ...json, coupons: [{}] } },
      fields: ["coupons[0].target", ...(method === unlockCoupons ? ["coupons[0].lock_version"] : [])],
    },
    {
      what: "a choice of a version only",
      method,
      json: { ...json, coupons: [chosen(someId), { lockVersion: "1" }] },
      fields: ["coupons[1].target"],
    },
    {
      what: "a lock version of -1",
      method,
      json: { ...json, coupons: [{ userCouponId: someId, lockVersion: "-1" }] },
      fields: ["coupons[0].lock_version"],
    },
    {
      what: "the smallest int64 as a lock version",
      method,
      json: { ...json, coupons: [chosen(otherId), { userCouponId: someId, lockVersion: "-9223372036854775808" }] },
      fields: ["coupons[1].lock_version"],
    },
  ]),
  {
    what: "no lock version",
    method: unlockCoupons,
    json: { userId: "u", coupons: [chosen(otherId), { userCouponId: someId }] },
    fields: ["coupons[1].lock_version"],
  },
  {
    what: "no lock version of either, and one twice",
    method: unlockCoupons,
    json: { userId: "u", coupons: [{ userCouponId: someId }, { userCouponId: someId }] },
    fields: ["coupons[0].lock_version", "coupons[1].lock_version", "coupons[1].user_coupon_id"],
  },
  ...priced.flatMap(([method, json]): Row[] =>
    badAmounts.map(([what, orderAmount, field]) => ({ what, method, json: { ...json, orderAmount }, fields: [field] })),
  ),
  ...[quoteUsage, useCoupons].map(
    (method): Row => ({ what: "no amount", method, json: { ...order, orderAmount: null }, fields: ["order_amount"] }),
  ),
  {
    what: "nothing at all",
    method: useCoupons,
    json: {},
    fields: ["user_id", "coupons", "product_id", "order_id", "order_amount"],
  },
  {
    what: "a user coupon twice and an unknown currency",
    method: useCoupons,
    json: { ...order, coupons: [chosen(someId), chosen(someId)], orderAmount: usd(1, "XXQ") },
    fields: ["coupons[1].user_coupon_id", "order_amount.currency_code"],
  },
  ...badUuids
    .filter(([, couponId]) => couponId !== "")
    .map(([what, couponId]): Row => ({ what, method: listUsages, json: { couponId }, fields: ["coupon_id"] })),
];

const otherRows: Row[] = [
  ...lists.flatMap(([method, json]) => [
    { what: "a page size of -1", method, json: { ...json, pageSize: -1 }, fields: ["page_size"] },
    { what: "a page size of 1,001", method, json: { ...json, pageSize: 1_001 }, fields: ["page_size"] },
    { what: "a malformed page token", method, json: { ...json, pageToken: "garbage" }, fields: ["page_token"] },
    { what: "a page token of blanks", method, json: { ...json, pageToken: " " }, fields: ["page_token"] },
    { what: "a page token with a NUL", method, json: { ...json, pageToken: "\0" }, fields: ["page_token"] },
    {
      what: "a page token that is too long",
      method,
      json: { ...json, pageToken: "x".repeat(513) },
      fields: ["page_token"],
    },
    {
      what: "both page fields wrong",
      method,
      json: { ...json, pageToken: "x".repeat(513), pageSize: -1 },
      fields: ["page_size", "page_token"],
    },
  ]),
  { what: "no coupon", method: createCoupon, json: {}, fields: ["coupon"] },
  { what: "no coupon", method: updateCoupon, json: { updateMask: "name" }, fields: ["coupon"] },
  { what: "no update mask", method: updateCoupon, json: { coupon: { ...good, id: someId } }, fields: ["update_mask"] },
  {
    what: "an empty update mask",
    method: updateCoupon,
    json: { coupon: { ...good, id: someId }, updateMask: "" },
    fields: ["update_mask"],
  },
  ...["id", "issuedCount", "state", "revision", "colour", "discount.fixedAmount", "toString"].map((path) => ({
    what: `the update mask ${path}`,
    method: updateCoupon,
    json: { coupon: { ...good, id: someId }, updateMask: path },
    fields: ["update_mask"],
  })),
  {
    what: "one known and two unknown paths",
    method: updateCoupon,
    json: { coupon: { ...good, id: someId }, updateMask: "name,colour,size" },
    fields: ["update_mask", "update_mask"],
  },
  {
    what: "a negative revision",
    method: deleteCoupon,
    json: { couponId: someId, revision: "-1" },
    fields: ["revision"],
  },
  { what: "no target", method: issueCoupon, json: { userId: "u" }, fields: ["target"] },
  {
    what: "no target and no user",
    method: issueCoupon,
    json: {},
    fields: ["target", "user_id"],
  },
];

function expectInvalid(answer: Answer, fields: readonly string[]): void {
  expect({ ...answer, fields: [...answer.fields].sort(), message: "" }).toEqual({
    code: "INVALID_ARGUMENT",
    reason: "INVALID_FIELD",
    fields: [...fields].sort(),
    retryDelayMs: undefined,
    preconditions: [],
    message: "",
  });
}

const rows = [...couponRows, ...idRows, ...nameRows, ...orderRows, ...otherRows].map((row) => ({
  ...row,
  rpc: row.method.name,
}));

describe("a field that is out of its range is named, and nothing else is", () => {
  test.for(rows)("native gRPC: $rpc with $what", async ({ method, json, fields }) => {
    const bytes = toBinary(method.input, fromJson(method.input, json));
    expectInvalid(await callNative(replica.client, method, bytes), fields);
  });
  test.for(rows)("JSON: $rpc with $what", async ({ method, json, fields }) => {
    expectInvalid(await callConnect(replica.httpPort, pathOf(method), JSON.stringify(json)), fields);
  });
});

describe("a page token of a listing with other parameters", () => {
  const tokenOf = async (method: DescMethodUnary, json: Record<string, JsonValue>) => {
    const response = await fetch(`http://127.0.0.1:${replica.httpPort}${pathOf(method)}`, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ ...json, pageSize: 1 }),
    });
    const { nextPageToken } = (await response.json()) as { nextPageToken: string };
    expect(nextPageToken).not.toBe("");
    return nextPageToken;
  };

  test("is refused by either listing, on both front ends", async () => {
    const first = await createSample(replica.client);
    const second = await createSample(replica.client);
    await issue(replica.client, first.id, "pager");
    await issue(replica.client, second.id, "pager");
    const ofCoupons = await tokenOf(listCoupons, {});
    const ofUser = await tokenOf(listUserCoupons, { userId: "pager" });
    const twice = await createSample(replica.client, { maxUses: 2 });
    const { id } = await issued(replica.client, twice.id, "user");
    for (const productId of ["p", "p"]) await use(replica.client, { userId: "user", coupons: [id], productId });
    const usages = { userId: "user", productId: "p", couponId: twice.id };
    const ofUsages = await tokenOf(listUsages, usages);
    const cases: [DescMethodUnary, JsonValue][] = [
      [listCoupons, { pageToken: ofCoupons, showDeleted: true }],
      [listCoupons, { pageToken: ofUser }],
      [listUserCoupons, { pageToken: ofUser, userId: "somebody else" }],
      [listUserCoupons, { pageToken: ofUser, userId: "pager", showExpired: true }],
      [listUserCoupons, { pageToken: ofUser, userId: "pager", showUsages: true }],
      [listUserCoupons, { pageToken: ofCoupons, userId: "pager" }],
      [listUserCoupons, { pageToken: ofUsages, userId: "user" }],
      [listCoupons, { pageToken: ofUsages }],
      [listUsages, { pageToken: ofCoupons }],
      [listUsages, { pageToken: ofUser, userId: "pager" }],
      [listUsages, { pageToken: ofUsages }],
      [listUsages, { pageToken: ofUsages, ...usages, userId: "other" }],
      [listUsages, { pageToken: ofUsages, ...usages, couponId: someId }],
      [listUsages, { pageToken: ofUsages, ...usages, productId: "q" }],
      [listUsages, { pageToken: ofUsages, ...usages, orderId: "o" }],
      [listUsages, { pageToken: ofUsages, ...usages, showCancelled: true }],
    ];
    for (const [method, json] of cases) {
      const bytes = toBinary(method.input, fromJson(method.input, json));
      expectInvalid(await callNative(replica.client, method, bytes), ["page_token"]);
      expectInvalid(await callConnect(replica.httpPort, pathOf(method), JSON.stringify(json)), ["page_token"]);
    }
  });
});

/** Messages that JSON cannot say, so that only binary front ends meet them. */
const binaryRows: { what: string; fields: CouponInit; wrong: string }[] = [
  {
    what: "an expire time past the year 9999",
    fields: { expireTime: { seconds: 253_402_300_800n } },
    wrong: "expire_time",
  },
  { what: "the last second of int64", fields: { expireTime: { seconds: 2n ** 63n - 1n } }, wrong: "expire_time" },
  { what: "the first second of int64", fields: { startTime: { seconds: -(2n ** 63n) } }, wrong: "start_time" },
  {
    what: "10^9 nanos",
    fields: { expireTime: { seconds: 4_000_000_000n, nanos: 1_000_000_000 } },
    wrong: "expire_time",
  },
  { what: "negative nanos", fields: { expireTime: { seconds: 4_000_000_000n, nanos: -1 } }, wrong: "expire_time" },
  {
    what: "10^9 nanos of validity",
    fields: { validityAfterIssue: { seconds: 5n, nanos: 1_000_000_000 } },
    wrong: "validity_after_issue",
  },
  {
    what: "a validity of two signs",
    fields: { validityAfterIssue: { seconds: 5n, nanos: -1_000_000 } },
    wrong: "validity_after_issue",
  },
  {
    what: "the longest validity of int64",
    fields: { validityAfterIssue: { seconds: 2n ** 63n - 1n } },
    wrong: "validity_after_issue",
  },
];

const invalidBytes: [string, Uint8Array][] = [
  ["a tag that never ends", Uint8Array.of(0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff)],
  ["a field that is cut off", Uint8Array.of(0x12, 0x20, 0x61)],
  ["a group that never ends", Uint8Array.of(0x0b)],
  ["wire type 7", Uint8Array.of(0x0f, 0x01)],
  ["field number 0", Uint8Array.of(0x02, 0x01, 0x61)],
  ["text", Buffer.from("this is no protobuf")],
  [
    "a string that is no UTF-8",
    Buffer.concat([
      toBinary(
        IssueCouponRequestSchema,
        create(IssueCouponRequestSchema, { target: { case: "couponId", value: someId } }),
      ),
      Uint8Array.of(0x12, 0x02, 0xc3, 0x28),
    ]),
  ],
  ["groups in groups, 10,000 deep", new Uint8Array(10_000).fill(0x7b)],
];

/** Each way in which binary messages can come. */
const binaryWays: [string, (method: DescMethodUnary, bytes: Uint8Array) => Promise<Answer>][] = [
  ["native gRPC", (method, bytes) => callNative(replica.client, method, bytes)],
  [
    "application/proto",
    (method, bytes) =>
      callConnect(replica.httpPort, pathOf(method), new Uint8Array(bytes), { "content-type": "application/proto" }),
  ],
  ["gRPC-Web", (method, bytes) => callGrpcWeb(replica.httpPort, pathOf(method), envelope(bytes))],
  [
    "application/proto with gzip",
    (method, bytes) =>
      callConnect(replica.httpPort, pathOf(method), new Uint8Array(gzipSync(bytes)), {
        "content-type": "application/proto",
        "content-encoding": "gzip",
      }),
  ],
  [
    "gRPC-Web with gzip",
    (method, bytes) =>
      callGrpcWeb(replica.httpPort, pathOf(method), envelope(gzipSync(bytes), 1), { "grpc-encoding": "gzip" }),
  ],
];

describe.for(binaryWays)("binary messages over %s", ([, send]) => {
  test.for(binaryRows)("$what", async ({ fields, wrong }) => {
    const request = create(CreateCouponRequestSchema, { coupon: sampleCoupon(fields) });
    expectInvalid(await send(createCoupon, toBinary(CreateCouponRequestSchema, request)), [`coupon.${wrong}`]);
  });

  test.for(invalidBytes)("%s", async ([, bytes]) => {
    const answer = await send(issueCoupon, bytes);
    expect([answer.code, answer.reason]).toEqual(["INVALID_ARGUMENT", "INVALID_FIELD"]);
  });

  test("an empty message where fields are required", async () => {
    expectInvalid(await send(createCoupon, new Uint8Array()), ["coupon"]);
  });
});

describe("JSON that cannot be read", () => {
  /** What these messages leave out, which is told as well where the rest of a message can be read. */
  const missing = ["coupon", "coupon.name", "coupon.discount", "coupon.expire_time", "coupons[0].target"];
  const expectOne = (answer: Answer, field: string) => {
    const named = answer.fields.filter((one) => one === field || !missing.includes(one));
    expect(named).toHaveLength(1);
    if (field !== "") expect(named).toEqual([field]);
  };

  /** The path that must be named; "" where no single field is to blame. */
  const unreadable: [string, string, string][] = [
    ["nothing", "", ""],
    ["a text that is no JSON", "{", ""],
    ["a number", "1", ""],
    ["an array", "[]", ""],
    ["null", "null", ""],
    ["two values", "{}{}", ""],
    ["an unknown field", '{"coupon":{},"colour":"red"}', "colour"],
    ["an unknown field further in", '{"coupon":{"colour":"red"}}', "coupon.colour"],
    ["a prototype", '{"__proto__":{"x":1}}', "__proto__"],
    ["a prototype for a label", '{"coupon":{"labels":{"__proto__":"x"}}}', "coupon.labels"],
    ["a number for a text", '{"coupon":{"name":1}}', "coupon.name"],
    ["a text for a message", '{"coupon":"x"}', "coupon"],
    ["an array for a message", '{"coupon":[]}', "coupon"],
    ["a text for a flag", '{"coupon":{"stackable":"yes"}}', "coupon.stackable"],
    ["a fraction for a whole number", '{"coupon":{"quantity":"1.5"}}', "coupon.quantity"],
    ["a number past int64", '{"coupon":{"quantity":"9223372036854775808"}}', "coupon.quantity"],
    ["a number past int32", '{"coupon":{"maxPerUser":2147483648}}', "coupon.max_per_user"],
    ["a number for a message", '{"coupon":{"discount":{"fixedAmount":5}}}', "coupon.discount.fixed_amount"],
    [
      "two kinds of discount",
      '{"coupon":{"discount":{"percentageBasisPoints":1,"fixedAmount":{}}}}',
      "coupon.discount",
    ],
    ["a time that is none", '{"coupon":{"expireTime":"tomorrow"}}', "coupon.expire_time"],
    ["a time in the 13th month", '{"coupon":{"expireTime":"2030-13-01T00:00:00Z"}}', "coupon.expire_time"],
    ["a time past the year 9999", '{"coupon":{"expireTime":"10000-01-01T00:00:00Z"}}', "coupon.expire_time"],
    ["a time that is a number", '{"coupon":{"expireTime":1700000000}}', "coupon.expire_time"],
    ["a duration without its unit", '{"coupon":{"validityAfterIssue":"60"}}', "coupon.validity_after_issue"],
    [
      "a duration past 10,000 years",
      '{"coupon":{"validityAfterIssue":"315576000001s"}}',
      "coupon.validity_after_issue",
    ],
    ["a lone surrogate", '{"coupon":{"name":"\\ud800"}}', "coupon.name"],
    ["a lone surrogate in a request id", '{"requestId":"\\udc00"}', "request_id"],
    ["the same field twice", '{"requestId":"a","request_id":"b"}', ""],
    ["objects in objects, 5,000 deep", `${'{"coupon":'.repeat(5_000)}1${"}".repeat(5_000)}`, ""],
  ];
  test.for(unreadable)("%s", async ([, text, field]) => {
    const answer = await callConnect(replica.httpPort, pathOf(createCoupon), text);
    expect([answer.code, answer.reason]).toEqual(["INVALID_ARGUMENT", "INVALID_FIELD"]);
    expectOne(answer, field);
  });

  const ofUse = (fields: object) => JSON.stringify({ ...order, ...fields });
  const unreadableUses: [string, string, string][] = [
    ["an unknown target", ofUse({ coupons: [{ couponName: "X" }] }), "coupons[0].couponName"],
    ["a text for the user coupons", ofUse({ coupons: "x" }), "coupons"],
    ["a text for a choice", ofUse({ coupons: [chosen(someId), "x"] }), "coupons[1]"],
    ["a number for an id", ofUse({ coupons: [{ userCouponId: 1 }] }), "coupons[0].user_coupon_id"],
    [
      "a fraction as a lock version",
      ofUse({ coupons: [{ userCouponId: someId, lockVersion: 1.5 }] }),
      "coupons[0].lock_version",
    ],
    [
      "a lock version past int64",
      ofUse({ coupons: [{ userCouponId: someId, lockVersion: "9223372036854775808" }] }),
      "coupons[0].lock_version",
    ],
    ["a number for an amount", ofUse({ orderAmount: 5 }), "order_amount"],
    ["an amount past int64", ofUse({ orderAmount: usd("9223372036854775808") }), "order_amount.minor_units"],
    ["a lone surrogate in a product id", `${ofUse({ productId: null }).slice(0, -1)},"productId":"\\ud800"}`, ""],
  ];
  test.for(unreadableUses)("%s", async ([, text, field]) => {
    const answer = await callConnect(replica.httpPort, pathOf(useCoupons), text);
    expect([answer.code, answer.reason]).toEqual(["INVALID_ARGUMENT", "INVALID_FIELD"]);
    expectOne(answer, field);
  });

  test("an update mask with a path that neither JSON nor the proto file has", async () => {
    const text = JSON.stringify({ coupon: { ...good, id: someId }, updateMask: "start__time" });
    const answer = await callConnect(replica.httpPort, pathOf(updateCoupon), text);
    expect([answer.code, answer.reason, answer.fields]).toEqual(["INVALID_ARGUMENT", "INVALID_FIELD", ["update_mask"]]);
  });

  test("bytes that are no UTF-8", async () => {
    const answer = await callConnect(replica.httpPort, pathOf(createCoupon), Uint8Array.of(0x22, 0xff, 0x22));
    expect([answer.code, answer.reason]).toEqual(["INVALID_ARGUMENT", "INVALID_FIELD"]);
  });

  test("a lone surrogate in a user id", async () => {
    const text = `{"couponId":"${someId}","userId":"\\ud800"}`;
    const answer = await callConnect(replica.httpPort, pathOf(issueCoupon), text);
    expect([answer.code, answer.reason, answer.fields]).toEqual(["INVALID_ARGUMENT", "INVALID_FIELD", ["user_id"]]);
  });
});

describe("more mistakes than an error can name", () => {
  const cases: [string, DescMethodUnary, JsonValue][] = [
    ...orders.map(([method, json]): [string, DescMethodUnary, JsonValue] => [
      "1,000 choices of nothing",
      method,
      { ...json, coupons: Array(1_000).fill({}) },
    ]),
    [
      "10,000 unknown paths",
      updateCoupon,
      { coupon: { ...good, id: someId }, updateMask: "ab,".repeat(10_000).slice(0, -1) },
    ],
    ["a path of 60,000 characters", updateCoupon, { coupon: { ...good, id: someId }, updateMask: "x".repeat(60_000) }],
  ];
  // Errors travel in trailers: one that is too long for them would reach nobody.
  test.for(cases.map(([what, method, json]) => ({ what, rpc: method.name, method, json })))(
    "$rpc with $what: some are named, on both front ends",
    async ({ method, json }) => {
      const bytes = toBinary(method.input, fromJson(method.input, json));
      for (const answer of [
        await callNative(replica.client, method, bytes),
        await callConnect(replica.httpPort, pathOf(method), JSON.stringify(json)),
      ]) {
        expect([answer.code, answer.reason]).toEqual(["INVALID_ARGUMENT", "INVALID_FIELD"]);
        expect(answer.fields.length).toBeGreaterThan(0);
        expect(answer.fields.length).toBeLessThanOrEqual(20);
      }
    },
  );
});

describe("what is at the edge of its range is no bad input", () => {
  const cases: [string, DescMethodUnary, JsonValue][] = [
    ...orders.map(([method, json]): [string, DescMethodUnary, JsonValue] => [
      "20 user coupons",
      method,
      { ...json, coupons: manyIds(20) },
    ]),
    ...orders.map(([method, json]): [string, DescMethodUnary, JsonValue] => [
      "the greatest lock version",
      method,
      { ...json, coupons: [{ userCouponId: someId, lockVersion: "9223372036854775807" }] },
    ]),
    ...priced.map(([method, json]): [string, DescMethodUnary, JsonValue] => [
      "the greatest amount and the longest names",
      method,
      { ...json, orderAmount: usd("1000000000000000"), productId: "🎟".repeat(128), orderId: "🎟".repeat(128) },
    ]),
    ["a name with quotes and backslashes", useCoupons, { ...order, productId: `\\u0000'"$1{}`, orderId: "\\x00%s" }],
    ["no amount", lockCoupons, { ...order, orderAmount: null }],
    ["no filter", listUsages, {}],
  ];
  test.for(cases.map(([what, method, json]) => ({ what, rpc: method.name, method, json })))(
    "$rpc with $what, on both front ends",
    async ({ method, json }) => {
      const bytes = toBinary(method.input, fromJson(method.input, json));
      for (const answer of [
        await callNative(replica.client, method, bytes),
        await callConnect(replica.httpPort, pathOf(method), JSON.stringify(json)),
      ]) {
        const isRead = [quoteUsage.name, listUsages.name].includes(method.name);
        expect(answer.reason ?? answer.code).toBe(isRead ? "OK" : "USER_COUPON_NOT_FOUND");
      }
    },
  );
});

describe("messages past 64 KiB", () => {
  const large = toBinary(
    CreateCouponRequestSchema,
    create(CreateCouponRequestSchema, { coupon: { name: "x", description: "x".repeat(5_000_000) } }),
  );
  const largeJson = JSON.stringify({ coupon: { ...good, description: "x".repeat(5_000_000) } });
  const path = pathOf(createCoupon);

  const ways: [string, () => Promise<Answer>][] = [
    ["native gRPC: 5 MB", () => callNative(replica.client, createCoupon, large)],
    ["JSON of 5 MB", () => callConnect(replica.httpPort, path, largeJson)],
    [
      "application/proto of 5 MB",
      () => callConnect(replica.httpPort, path, new Uint8Array(large), { "content-type": "application/proto" }),
    ],
    ["gRPC-Web of 5 MB", () => callGrpcWeb(replica.httpPort, path, envelope(large))],
    [
      "a gzip bomb as JSON",
      () => callConnect(replica.httpPort, path, new Uint8Array(gzipSync(largeJson)), { "content-encoding": "gzip" }),
    ],
    [
      "a gzip bomb as application/proto",
      () =>
        callConnect(replica.httpPort, path, new Uint8Array(gzipSync(large)), {
          "content-type": "application/proto",
          "content-encoding": "gzip",
        }),
    ],
    [
      "a gzip bomb as gRPC-Web",
      () => callGrpcWeb(replica.httpPort, path, envelope(gzipSync(large), 1), { "grpc-encoding": "gzip" }),
    ],
  ];
  test.for(ways)("%s", async ([, send]) => {
    const answer = await send();
    expect([answer.code, answer.reason]).toEqual(["RESOURCE_EXHAUSTED", "MESSAGE_TOO_LARGE"]);
  });

  test("a description of 4,000 characters of four bytes is none", async () => {
    const text = JSON.stringify({ coupon: { ...good, description: "\u{1f39f}".repeat(4_000) } });
    expect((await callConnect(replica.httpPort, path, text)).code).toBe("OK");
  });
});

describe("each method's own limit", () => {
  const kib = 1_024;
  const limits: [DescMethodUnary, number][] = [
    [createCoupon, 64 * kib],
    [batchIssueCoupons, 1_024 * kib],
    [batchCreateCoupons, 8_192 * kib],
  ];
  /** Blanks, some of them in no order, so that what is made of them does not inflate to many times its length. */
  const blanks = Buffer.from(" \t\r\n");
  const noise = Buffer.alloc(64 * kib, " ").fill(
    randomBytes(4 * kib).map((byte) => blanks[byte & 3] as number),
    0,
    4 * kib,
  );
  /** A message of exactly this many bytes, of an unknown field of which nobody takes notice. */
  const padded = (bytes: number) => {
    const tag = [0x82, 0x7d];
    const lengthBytes = bytes - tag.length < 0x4000 + 3 ? 3 : bytes - tag.length - 4 < 0x200000 ? 3 : 4;
    const length = bytes - tag.length - lengthBytes;
    const head = Array.from(
      { length: lengthBytes },
      (_, index) => ((length >>> (7 * index)) & 0x7f) | (index < lengthBytes - 1 ? 0x80 : 0),
    );
    const message = new Uint8Array(Buffer.alloc(bytes, noise));
    message.set([...tag, ...head]);
    return message;
  };
  const proto = { "content-type": "application/proto" };
  const gzipped = { "content-encoding": "gzip" };
  const json = (bytes: number) => `{${Buffer.alloc(bytes - 2, noise)}}`;
  const send: Record<string, (method: DescMethodUnary, bytes: number) => Promise<Answer>> = {
    "native gRPC": (method, bytes) => callNative(replica.client, method, padded(bytes)),
    JSON: (method, bytes) => callConnect(replica.httpPort, pathOf(method), json(bytes)),
    Connect: (method, bytes) => callConnect(replica.httpPort, pathOf(method), padded(bytes), proto),
    "gRPC-Web": (method, bytes) => callGrpcWeb(replica.httpPort, pathOf(method), envelope(padded(bytes))),
    "JSON with gzip": (method, bytes) =>
      callConnect(replica.httpPort, pathOf(method), new Uint8Array(gzipSync(json(bytes))), gzipped),
    "gRPC-Web with gzip": (method, bytes) =>
      callGrpcWeb(replica.httpPort, pathOf(method), envelope(gzipSync(padded(bytes)), 1), { "grpc-encoding": "gzip" }),
  };
  const rows = limits.flatMap(([method, limit]) =>
    Object.entries(send).map(([way, call]) => ({ rpc: method.name, method, limit, way, call })),
  );
  test.for(rows)("$rpc by $way: $limit bytes and one more", async ({ method, limit, way, call }) => {
    // What says nothing is read, and then refused for what it lacks.
    expect((await call(method, limit)).reason).toBe("INVALID_FIELD");
    const answer = await call(method, limit + 1);
    // Past the largest limit of all, it is the transport of native gRPC that refuses.
    const isTransport = way === "native gRPC" && limit === 8_192 * kib;
    expect([answer.code, answer.reason]).toEqual(["RESOURCE_EXHAUSTED", isTransport ? undefined : "MESSAGE_TOO_LARGE"]);
  });
});

describe("the envelope around the message", () => {
  const path = pathOf(issueCoupon);
  const body = JSON.stringify({ couponId: someId, userId: "u" });
  const message = toBinary(ListUserCouponsRequestSchema, create(ListUserCouponsRequestSchema, { userId: "u" }));

  test.for([["text/plain"], ["application/xml"], ["application/x-www-form-urlencoded"], ["application/grpc-web-text"]])(
    "the content type %s gets HTTP 415",
    async ([type]) => {
      const answer = await callConnect(replica.httpPort, path, body, { "content-type": type as string });
      expect(answer.code).toBe("HTTP 415");
    },
  );

  test("a Brotli body is refused without being unpacked", async () => {
    const compressed = new Uint8Array(brotliCompressSync(body));
    const answer = await callConnect(replica.httpPort, path, compressed, { "content-encoding": "br" });
    expect(answer.code).toBe("UNIMPLEMENTED");
  });

  test("a Brotli envelope is refused without being unpacked", async () => {
    const bytes = envelope(brotliCompressSync(message), 1);
    const answer = await callGrpcWeb(replica.httpPort, pathOf(listUserCoupons), bytes, { "grpc-encoding": "br" });
    expect(answer.code).toBe("UNIMPLEMENTED");
  });

  test("a body that is not the gzip it claims to be", async () => {
    const answer = await callConnect(replica.httpPort, path, body, { "content-encoding": "gzip" });
    expect(answer.code).toBe("INVALID_ARGUMENT");
  });

  const badEnvelopes: [string, Uint8Array<ArrayBuffer>, Record<string, string>][] = [
    ["nothing", new Uint8Array(), {}],
    ["a part of its head", Uint8Array.of(0, 0, 0), {}],
    ["less than it announces", envelope(message).slice(0, -1), {}],
    ["two messages", new Uint8Array([...envelope(message), ...envelope(message)]), {}],
    ["what is not the gzip it claims to be", envelope(message, 1), { "grpc-encoding": "gzip" }],
  ];
  test.for(badEnvelopes)("gRPC-Web: an envelope with %s", async ([, bytes, headers]) => {
    const answer = await callGrpcWeb(replica.httpPort, pathOf(listUserCoupons), bytes, headers);
    expect(answer.code).not.toMatch(/^(OK|INTERNAL|UNKNOWN|HTTP 5)/);
  });

  test("a compressed envelope that is right is served", async () => {
    const bytes = envelope(gzipSync(message), 1);
    const answer = await callGrpcWeb(replica.httpPort, pathOf(listUserCoupons), bytes, { "grpc-encoding": "gzip" });
    expect(answer.code).toBe("OK");
  });

  test.for([["/coupon.v1.CatalogService/NoSuchMethod"], ["/coupon.v1.NoSuchService/GetCoupon"], ["/"]])(
    "the unknown path %s gets HTTP 404",
    async ([unknown]) => {
      expect((await callConnect(replica.httpPort, unknown as string, "{}")).code).toBe("HTTP 404");
    },
  );

  test("native gRPC: an unknown method is UNIMPLEMENTED", async () => {
    const method = { ...getCoupon, name: "NoSuchMethod" } as DescMethodUnary;
    expect((await callNative(replica.client, method, new Uint8Array())).code).toBe("UNIMPLEMENTED");
  });
});

describe("GET", () => {
  const get = async (path: string) => await readConnect(await fetch(`http://127.0.0.1:${replica.httpPort}${path}`));
  const query = (message: string, encoding = "json") =>
    `?connect=v1&encoding=${encoding}&message=${encodeURIComponent(message)}`;

  test("of a method that changes something gets HTTP 405", async () => {
    const body = query(JSON.stringify({ couponId: someId, userId: "u" }));
    expect((await get(`${pathOf(issueCoupon)}${body}`)).code).toBe("HTTP 405");
  });

  test("without a message is refused", async () => {
    const answer = await get(pathOf(getCoupon));
    expect(answer.code).toMatch(/^(INVALID_ARGUMENT|HTTP 4\d\d)$/);
  });

  test.for([
    ["a malformed UUID", query('{"couponId":"x"}'), ["coupon_id"]],
    ["an unknown field", query(`{"couponId":"${someId}","colour":"red"}`), ["colour"]],
    ["JSON that is none", query("{"), [""]],
    [
      "bytes that are no message",
      `${query(Buffer.of(0x0a, 0x20, 0x61).toString("base64url"), "proto")}&base64=1`,
      [""],
    ],
  ] as const)("with %s is refused like POST", async ([, text, fields]) => {
    expectInvalid(await get(`${pathOf(getCoupon)}${text}`), fields);
  });

  test("of a method that reads, with a good message, is served", async () => {
    const { id } = await createSample(replica.client);
    expect((await get(`${pathOf(getCoupon)}${query(JSON.stringify({ couponId: id }))}`)).code).toBe("OK");
  });
});

describe("a deadline that cannot be kept", () => {
  test("native gRPC: one in the past", async () => {
    const client = new grpc.Client(`127.0.0.1:${replica.grpcPort}`, grpc.credentials.createInsecure());
    const code = await new Promise((resolve) => {
      const same = (bytes: Buffer) => bytes;
      const message = Buffer.from(
        toBinary(ListUserCouponsRequestSchema, create(ListUserCouponsRequestSchema, { userId: "u" })),
      );
      client.makeUnaryRequest(pathOf(listUserCoupons), same, same, message, { deadline: Date.now() - 1_000 }, (error) =>
        resolve(error?.code),
      );
    });
    client.close();
    expect(code).toBe(grpc.status.DEADLINE_EXCEEDED);
  });

  test("JSON: 1 ms, which passes while the body is still on its way", async () => {
    // The head comes first and the body when the time is over, so that the outcome does not hang on speed.
    const status = await new Promise<{ status: number; body: string }>((resolve, reject) => {
      const text = JSON.stringify({ userId: "u" });
      const call = httpRequest(
        {
          port: replica.httpPort,
          host: "127.0.0.1",
          path: pathOf(listUserCoupons),
          method: "POST",
          headers: {
            "content-type": "application/json",
            "content-length": text.length,
            "connect-timeout-ms": "1",
          },
        },
        (response) => {
          let body = "";
          response.on("data", (chunk) => {
            body += String(chunk);
          });
          response.on("end", () => resolve({ status: response.statusCode ?? 0, body }));
        },
      );
      call.on("error", reject);
      call.flushHeaders();
      const sentMs = Date.now();
      until("the deadline has passed", () => Date.now() > sentMs + 20).then(() => call.end(text), reject);
    });
    expect(status.status).toBe(504);
    expect(JSON.parse(status.body).code).toBe("deadline_exceeded");
  });

  test.for([["-1"], ["abc"], ["1e3"], ["12345678901"]])("JSON: the timeout %s is refused", async ([timeout]) => {
    const answer = await callConnect(replica.httpPort, pathOf(listUserCoupons), '{"userId":"u"}', {
      "connect-timeout-ms": timeout as string,
    });
    expect(answer.code).toBe("INVALID_ARGUMENT");
  });

  test("JSON: a timeout of ten digits is cut to the server's own", async () => {
    const answer = await callConnect(replica.httpPort, pathOf(listUserCoupons), '{"userId":"u"}', {
      "connect-timeout-ms": "9999999999",
    });
    expect(answer.code).toBe("OK");
  });
});

test("after all of it, the server still serves, and has had no fault of its own", async () => {
  const { id } = await createSample(replica.client, { quantity: 1n });
  const body = JSON.stringify({ couponId: id, userId: "the last one" });
  expect((await callConnect(replica.httpPort, pathOf(issueCoupon), body)).code).toBe("OK");
  await expect(issue(replica.client, id, "one too late")).rejects.toMatchObject({ reason: "SOLD_OUT" });
  expect(
    replica
      .log()
      .split("\n")
      .filter((line) => line.includes("call failed")),
  ).toEqual([]);
});
