import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import { afterAll, expect, test } from "vitest";
import { CatalogService, DiscountKind } from "../../gen/coupon/v1/catalog_service_pb.js";
import { CouponType } from "../../gen/coupon/v1/coupon_pb.js";
import { oneReplica } from "../support/service.js";
import { answerOf, callConnect, pathOf } from "./front-ends.js";
import { createSample, readCoupon, untilPassed } from "./samples.js";

const { searchCoupons, listCoupons, updateCoupon, deleteCoupon } = CatalogService.method;

const { replica } = await oneReplica(afterAll);

/** The names of what is found, over JSON. */
async function namesOverHttp(json: Record<string, unknown>): Promise<string[]> {
  const response = await fetch(`http://127.0.0.1:${replica.httpPort}${pathOf(searchCoupons)}`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify(json),
  });
  expect(response.status).toBe(200);
  const { coupons = [] } = (await response.json()) as { coupons?: { name: string }[] };
  return coupons.map(({ name }) => name);
}

test("a coupon is found as it is, through both front ends, from its creation to its deletion", async () => {
  const { client } = replica;
  const created = await createSample(client, {
    name: "Espresso for two",
    description: "At any of our bars",
    category: "Drinks",
    type: CouponType.FREE,
    quantity: 5n,
  });
  const { coupons, correctedQuery, nextPageToken } = await client.call(searchCoupons, { query: "expresso BARS" });
  expect(coupons).toEqual([await readCoupon(client, created.id)]);
  expect(correctedQuery).toBe("espresso bars");
  expect(nextPageToken).toBe("");

  const filters = { category: "drinks", type: "COUPON_TYPE_FREE", discountKind: "DISCOUNT_KIND_PERCENTAGE" };
  expect(await namesOverHttp({ query: "espr", ...filters })).toEqual(["Espresso for two"]);
  expect(await namesOverHttp({ query: "espr", ...filters, discountKind: "DISCOUNT_KIND_FIXED_AMOUNT" })).toEqual([]);
  expect(await namesOverHttp({ query: "espr", ...filters, type: "COUPON_TYPE_MEGADEAL" })).toEqual([]);

  const coupon = { id: created.id, name: "Ristretto for two" };
  await client.call(updateCoupon, { coupon, updateMask: { paths: ["name"] } });
  expect(await namesOverHttp({ query: "ristretto" })).toEqual(["Ristretto for two"]);
  expect(await namesOverHttp({ query: "for two drinks" })).toEqual(["Ristretto for two"]);
  await client.call(deleteCoupon, { couponId: created.id });
  expect(await namesOverHttp({ query: "ristretto", showEnded: true })).toEqual([]);
});

test("an ended coupon is found with show_ended only", async () => {
  const endsMs = Date.now() + 3_000;
  await createSample(replica.client, {
    name: "Gone soon",
    startTime: timestampFromMs(endsMs - 60_000),
    expireTime: timestampFromMs(endsMs),
  });
  expect(await namesOverHttp({ query: "soon" })).toEqual(["Gone soon"]);
  await untilPassed(endsMs);
  expect(await namesOverHttp({ query: "soon" })).toEqual([]);
  expect(await namesOverHttp({ query: "soon", showEnded: true })).toEqual(["Gone soon"]);
});

test("pages of 20 go on where the last one ended, and with another size", async () => {
  const { client } = replica;
  for (let n = 0; n < 24; n += 1)
    await createSample(client, { name: n % 2 ? "Umbrella" : "Rain", description: "umbrella" });
  const first = await client.call(searchCoupons, { query: "umbrella" });
  const second = await client.call(searchCoupons, {
    query: "umbrella",
    pageSize: 3,
    pageToken: first.nextPageToken,
  });
  const third = await client.call(searchCoupons, { query: "umbrella", pageToken: second.nextPageToken });
  expect([first, second, third].map(({ coupons }) => coupons.length)).toEqual([20, 3, 1]);
  expect(third.nextPageToken).toBe("");
  const found = [first, second, third].flatMap(({ coupons }) => coupons);
  expect(new Set(found.map(({ id }) => id)).size).toBe(24);
  expect(found.map(({ name }) => name)).toEqual([...Array(12).fill("Umbrella"), ...Array(12).fill("Rain")]);
});

test("a page token of another search or list is refused", async () => {
  const { client } = replica;
  for (const n of [1, 2, 3]) await createSample(client, { name: `Token ${n}`, category: "tokens" });
  const { nextPageToken: pageToken } = await client.call(searchCoupons, { query: "token", pageSize: 1 });
  const { nextPageToken: ofList } = await client.call(listCoupons, { pageSize: 1 });
  expect((await answerOf(client.call(searchCoupons, { query: "token", pageToken, pageSize: 2 }))).code).toBe("OK");
  for (const request of [
    { query: "tokens", pageToken },
    { query: "token", pageToken, category: "tokens" },
    { query: "token", pageToken, type: CouponType.FREE },
    { query: "token", pageToken, discountKind: DiscountKind.PERCENTAGE },
    { query: "token", pageToken, showEnded: true },
    { query: "token", pageToken: ofList },
    { query: "token", pageToken: "nonsense" },
    { query: "token", pageToken: Buffer.from("3.x y").toString("base64url") },
  ]) {
    const answer = await answerOf(client.call(searchCoupons, request));
    expect(answer).toMatchObject({ code: "INVALID_ARGUMENT", reason: "INVALID_FIELD", fields: ["page_token"] });
  }
  const refused = await answerOf(client.call(listCoupons, { pageToken }));
  expect(refused).toMatchObject({ reason: "INVALID_FIELD", fields: ["page_token"] });
});

test.for([
  ["a query of 201 characters", { query: "x".repeat(201) }, ["query"]],
  ["a category of 101 characters", { category: "x".repeat(101) }, ["category"]],
  ["NUL characters", { query: "a\0b", category: "\0" }, ["query", "category"]],
  ["a page of 101", { pageSize: 101 }, ["page_size"]],
  ["a page of -1", { pageSize: -1 }, ["page_size"]],
  ["a type that does not exist", { type: 77 }, ["type"]],
  ["a kind of discount that does not exist", { discountKind: 77 }, ["discount_kind"]],
] as const)("bad input names its fields on both front ends: %s", async ([, request, fields]) => {
  const native = await answerOf(replica.client.call(searchCoupons, request as object));
  expect(native).toMatchObject({ code: "INVALID_ARGUMENT", reason: "INVALID_FIELD" });
  expect([...native.fields].sort()).toEqual([...fields].sort());
  const {
    code,
    reason,
    fields: named,
  } = await callConnect(replica.httpPort, pathOf(searchCoupons), JSON.stringify(request));
  expect({ code, reason, named }).toEqual({ code: native.code, reason: native.reason, named: native.fields });
});
