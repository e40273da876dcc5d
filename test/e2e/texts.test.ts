import {
  type DescField,
  type DescMessage,
  type DescMethodUnary,
  fromJson,
  type JsonValue,
  ScalarType,
  toBinary,
} from "@bufbuild/protobuf";
import { afterAll, beforeAll, expect, test } from "vitest";
import { AuditService } from "../../gen/coupon/v1/audit_service_pb.js";
import { AuthService } from "../../gen/coupon/v1/auth_service_pb.js";
import { CatalogService } from "../../gen/coupon/v1/catalog_service_pb.js";
import { IssuanceService } from "../../gen/coupon/v1/issuance_service_pb.js";
import { UsageService } from "../../gen/coupon/v1/usage_service_pb.js";
import { UserCouponService } from "../../gen/coupon/v1/user_coupon_service_pb.js";
import { oneReplica } from "../support/service.js";
import { callConnect, callNative, pathOf } from "./front-ends.js";
import { createSample, issued } from "./samples.js";

/** Every text of every request, with what a store may choke on: no caller is told that it is our fault. */

const services = [AuditService, AuthService, CatalogService, IssuanceService, UserCouponService, UsageService];
const methods = services.flatMap((service) => service.methods) as DescMethodUnary[];

/** Otherwise each of the two front ends gets every second. */
const isWhole = process.env.FAULT_SCALE === "1";

/** Stands for a text in what is sent, and is as long as the longest of those in bytes. */
const mark = "MARK";
const texts: [string, string, Buffer?][] = [
  ["a NUL", "a\0b"],
  ["a NUL alone", "\0"],
  ["the first half of a character", "a\ud800", Buffer.from("61eda080", "hex")],
  ["the second half of a character", "\udc00a", Buffer.from("edb08061", "hex")],
  ["a byte that is no UTF-8", "\ud800", Buffer.from("ff", "hex")],
  ["a control character", "a\u0001b"],
  ["what separates fields in Redis", "a\u001fb\u001ec"],
  ["a DEL", "\u007f"],
  ["a line separator", "\u2028"],
  ["a character past the basic plane", "😀"],
  ["what is no character", "\uffff"],
  ["a letter that grows in capitals", "ß"],
  ["what turns round", "\u202ea"],
  ["what ends a literal", "'; SELECT '{\"\\"],
  ["what ends an array", '",NULL}'],
  ["what is a tsquery", "a & !b | (c:* <-> d"],
  ["blanks", "   "],
  ["a backslash", "\\u0000"],
];

const { replica } = await oneReplica(afterAll);
/** A good request of each method, by its name. */
let requests: Record<string, Record<string, JsonValue>>;

beforeAll(async () => {
  const { client } = replica;
  const { id: couponId } = await createSample(client);
  const { id: bookId } = await createSample(client, { codeBook: {} });
  const { id: userCouponId } = await issued(client, couponId, "u");
  const tomorrow = new Date(Date.now() + 86_400_000).toISOString();
  const coupon = {
    name: "n",
    description: "d",
    category: "c",
    discount: { percentageBasisPoints: 1, maximumAmount: { currencyCode: "USD", minorUnits: "5" } },
    quota: { group: "g", maxPerDay: 1 },
    labels: { k: "v" },
    expireTime: tomorrow,
  };
  const discount = {
    fixedAmount: { currencyCode: "USD", minorUnits: "5" },
    minimumOrderAmount: { currencyCode: "USD", minorUnits: "5" },
  };
  const terms = { discount };
  const requestId = "r";
  const keyId = "a".repeat(12);
  const page = { pageToken: "" };
  const orderOf = (target: Record<string, JsonValue>) => ({
    ...{ userId: "u", productId: "p", orderId: "o", requestId },
    coupons: [{ ...target, lockVersion: "1" }],
    orderAmount: { currencyCode: "USD", minorUnits: "1000" },
  });
  const { productId: _, orderId: __, orderAmount: ___, ...unlock } = orderOf({ userCouponId });
  const { requestId: ____, ...quote } = orderOf({ userCouponId });
  requests = {
    CreateCoupon: { coupon, requestId },
    GetCoupon: { couponId },
    ListCoupons: page,
    UpdateCoupon: { coupon: { ...coupon, id: couponId }, updateMask: "name,description,category,labels", requestId },
    DeleteCoupon: { couponId: bookId, revision: "9", requestId },
    PauseCoupon: { couponId: bookId, requestId },
    ResumeCoupon: { couponId, requestId },
    BatchCreateCoupons: { coupons: [coupon], requestId },
    SearchCoupons: { query: "q", category: "c", ...page },
    UploadCodes: { couponId: bookId, lines: [{ code: "c", terms }], requestId },
    GenerateCodes: { couponId: bookId, pattern: "#{9}", count: 1, terms, requestId },
    GetCodeJob: { jobId: couponId },
    ListCodeJobs: { couponId, ...page },
    CancelCodeJob: { jobId: couponId, requestId },
    DeleteCodes: { couponId: bookId, codes: ["c"], requestId },
    "DeleteCodes of an upload": { couponId: bookId, uploadId: couponId, ...page, requestId },
    "DeleteCodes of a job": { couponId: bookId, jobId: couponId, ...page, requestId },
    ListCodes: { couponId: bookId, ...page },
    GetStats: { couponId },
    GetCouponActivity: { couponId },
    IssueCoupon: { couponId, userId: "u", requestId, labels: { k: "v" } },
    "IssueCoupon by code": { code: "c", userId: "u", requestId },
    "IssueCoupon by type": { type: "COUPON_TYPE_FREE", userId: "u", requestId },
    BatchIssueCoupons: { couponId, userIds: ["u", "v"], requestId, labels: { k: "v" } },
    GetUserCoupon: { userId: "u", userCouponId },
    ListUserCoupons: { userId: "u", ...page },
    DeleteUserCoupon: { userId: "u", userCouponId: bookId, requestId },
    QuoteUsage: quote,
    LockCoupons: orderOf({ userCouponId }),
    UnlockCoupons: unlock,
    UseCoupons: { ...orderOf({ userCouponId }), labels: { k: "v" } },
    "QuoteUsage by code": { ...quote, coupons: [{ code: "c" }] },
    "LockCoupons by code": orderOf({ code: "c" }),
    "UnlockCoupons by code": { ...unlock, coupons: [{ code: "c", lockVersion: "1" }] },
    "UseCoupons by code": orderOf({ code: "c" }),
    "QuoteUsage of one code": { ...quote, coupons: [], code: "c" },
    "LockCoupons of one code": { ...orderOf({}), coupons: [], code: "c" },
    "UnlockCoupons of one code": { ...unlock, coupons: [], code: "c", lockVersion: "1" },
    "UseCoupons of one code": { ...orderOf({}), coupons: [], code: "c" },
    CancelUsage: { userId: "u", usageId: couponId, requestId },
    "CancelUsage by user coupon": { userId: "u", userCouponId, requestId },
    GetUsage: { userId: "u", usageId: couponId },
    CreateKey: { caller: "c", scopes: ["issue"], expireTime: tomorrow, requestId },
    ListKeys: { caller: "c", ...page },
    ListAuditRecords: { principal: "p", method: "m", targetId: couponId, ...page },
    RotateKey: { keyId, expireTime: tomorrow, requestId },
    ExpireKey: { keyId, expireTime: tomorrow, requestId },
    RevokeKey: { keyId, requestId },
    SetCallerLimits: { caller: "c", requestId },
    GetCallerLimits: { caller: "c" },
    ListUsages: { userId: "u", couponId, productId: "p", orderId: "o", ...page },
  };
});

/** The same request once for each text in it, that text replaced by the mark; and the text's path. */
function marked(value: JsonValue, path = ""): { path: string; json: JsonValue }[] {
  if (typeof value === "string") return [{ path, json: mark }];
  if (value === null || typeof value !== "object") return [];
  return Object.entries(value).flatMap(([key, inner]) =>
    marked(inner as JsonValue, Array.isArray(value) ? `${path}[]` : `${path}.${key}`).map((one) => ({
      path: one.path,
      json: Array.isArray(value)
        ? value.map((item, at) => (at === Number(key) ? one.json : item))
        : { ...value, [key]: one.json },
    })),
  );
}

const outputOnly = new Set([".coupon.id"]);

/** The paths of a message's texts, those of its inner messages among them. */
function textsOf(message: DescMessage, path = ""): string[] {
  return message.fields.flatMap((field: DescField) => {
    const at = `${path}.${field.jsonName}${field.fieldKind === "list" ? "[]" : ""}`;
    if (field.message) return field.message.typeName.startsWith("google.") ? [] : textsOf(field.message, at);
    return field.fieldKind !== "map" && field.scalar === ScalarType.STRING ? [at] : [];
  });
}

/** With their field numbers: what is no JSON string of that kind is no text. */
const isText = (method: DescMethodUnary, json: JsonValue) => {
  try {
    fromJson(method.input, json);
    return true;
  } catch {
    return false;
  }
};

test("there is a good request of each method, with each of its texts in one of them", () => {
  for (const method of methods) {
    const ofMethod = Object.entries(requests).filter(([name]) => name.split(" ")[0] === method.name);
    const paths = new Set(ofMethod.flatMap(([, json]) => marked(json).map((one) => one.path)));
    const missing = textsOf(method.input).filter((path) => !paths.has(path) && !outputOnly.has(path));
    // A coupon has one discount: that of a fixed amount is named by codes.
    expect(
      missing.filter(
        (path) => !/^\.coupons?(\[\])?\.(id$|discount\.)/.test(path) && !/terms\.discount\.maximum/.test(path),
      ),
      method.name,
    ).toEqual([]);
  }
});

test.for(methods.map((method) => [method.name, method] as const))(
  "no text in %s is answered with INTERNAL, by either front end",
  async ([name, method]) => {
    const ofMethod = Object.entries(requests).filter(([key]) => key.split(" ")[0] === name);
    let sent = 0;
    let place = 0;
    for (const [key, json] of ofMethod) {
      for (const { path, json: withMark } of marked(json)) {
        if (!isText(method, withMark)) continue;
        const binary = Buffer.from(toBinary(method.input, fromJson(method.input, withMark) as never));
        const ways = {
          json: (text: string) => {
            const body = JSON.stringify(withMark).replace(JSON.stringify(mark), () => JSON.stringify(text));
            return callConnect(replica.httpPort, pathOf(method), body);
          },
          native: (text: string, bytes: Buffer = Buffer.from(text)) =>
            callNative(replica.client, method, replaceText(binary, bytes)),
        };
        place += 1;
        const send = async ([what, ...text]: (typeof texts)[number], at: number) => {
          for (const [index, [frontEnd, call]] of Object.entries(ways).entries()) {
            // Behind them the way is the same: each place gets each text by one of them.
            if (!isWhole && (place + at + index) % 2 > 0) continue;
            const { code, reason, message } = await call(...text);
            const said = `${key} with ${what} as ${path} over ${frontEnd}: ${code} ${reason} ${message}`;
            expect(reason ?? code, said).toMatch(/^(?!INTERNAL|UNKNOWN|STORE_UNAVAILABLE|HTTP)/);
            sent += 1;
          }
        };
        await Promise.all(texts.map(send));
      }
    }
    if (textsOf(method.input).length > 0) expect(sent).toBeGreaterThan(0);
  },
);

const { issueCoupon } = IssuanceService.method;
const { quoteUsage, lockCoupons, unlockCoupons, useCoupons } = UsageService.method;

test.for([
  ["a\0b", false],
  ["a\tb", false],
  ["", false],
  ["  ", false],
  ["é", false],
  ["a\u00a0b", false],
  ["x".repeat(65), false],
  ["x".repeat(64), true],
  ["TEXT-1", true],
  [" \ttext 1\r\n", true],
  ["a b", true],
  ["-", true],
] as const)("the code %j is one that may exist: %s", async ([code, may]) => {
  const order = { userId: "u", productId: "p", orderId: "o", orderAmount: { currencyCode: "USD", minorUnits: "1" } };
  const choice = { coupons: [{ code, lockVersion: "1" }] };
  const calls: [DescMethodUnary, JsonValue, string][] = [
    [issueCoupon, { code, userId: "u" }, "code"],
    [quoteUsage, { ...order, ...choice }, "coupons[0].code"],
    [lockCoupons, { ...order, ...choice }, "coupons[0].code"],
    [unlockCoupons, { userId: "u", ...choice }, "coupons[0].code"],
    [useCoupons, { ...order, ...choice }, "coupons[0].code"],
  ];
  for (const [method, json, field] of calls) {
    const answers = [
      await callConnect(replica.httpPort, pathOf(method), JSON.stringify(json)),
      await callNative(replica.client, method, toBinary(method.input, fromJson(method.input, json) as never)),
    ];
    for (const answer of answers) {
      if (may) expect(answer.reason).not.toBe("INVALID_FIELD");
      else expect(answer).toMatchObject({ reason: "INVALID_FIELD", fields: [field] });
    }
  }
});

test("a code is found however it is surrounded", async () => {
  const { client } = replica;
  const { id: couponId } = await createSample(client, { codeBook: {} });
  await client.call(CatalogService.method.uploadCodes, {
    target: { case: "couponId", value: couponId },
    lines: [{ code: "Round-1" }],
  });
  const target = { case: "code" as const, value: " \tround 1 \n" };
  const { userCoupon } = await client.call(issueCoupon, { target, userId: "u" });
  expect(userCoupon?.code).toBe("Round-1");
});

test("whose name begins with a byte order mark is another user than who has the rest of it, by either front end", async () => {
  const { id: couponId } = await createSample(replica.client);
  const issueTo = (userId: string) => ({
    binary: toBinary(issueCoupon.input, fromJson(issueCoupon.input, { couponId, userId })),
    json: JSON.stringify({ couponId, userId }),
  });
  const plain = issueTo("ada");
  const withMark = issueTo("\ufeffada");
  expect(await callConnect(replica.httpPort, pathOf(issueCoupon), plain.json)).toMatchObject({ code: "OK" });
  expect(await callNative(replica.client, issueCoupon, withMark.binary)).toMatchObject({ code: "OK" });
  expect(await callConnect(replica.httpPort, pathOf(issueCoupon), withMark.json)).toMatchObject({
    reason: "ALREADY_ISSUED",
  });
});

/** Puts other bytes in the place of the mark, and says so in every length around it. */
function replaceText(message: Buffer, bytes: Buffer): Buffer {
  const parts: Buffer[] = [];
  for (let at = 0; at < message.length; ) {
    const [tag, afterTag] = readVarint(message, at);
    if (tag % 8 === 2) {
      const [length, from] = readVarint(message, afterTag);
      const value = message.subarray(from, from + length);
      const changed = value.equals(Buffer.from(mark))
        ? bytes
        : value.includes(mark)
          ? replaceText(value, bytes)
          : value;
      parts.push(message.subarray(at, afterTag), varint(changed.length), changed);
      at = from + length;
    } else {
      const [, end] = tag % 8 === 0 ? readVarint(message, afterTag) : [0, afterTag + (tag % 8 === 1 ? 8 : 4)];
      parts.push(message.subarray(at, end));
      at = end;
    }
  }
  return Buffer.concat(parts);
}

function readVarint(bytes: Buffer, at: number): [number, number] {
  let value = 0;
  for (let shift = 0; ; shift += 7) {
    const byte = bytes[at++] as number;
    value += (byte & 0x7f) * 2 ** shift;
    if (byte < 0x80) return [value, at];
  }
}

function varint(value: number): Buffer {
  const bytes: number[] = [];
  for (let left = value; bytes.length === 0 || left > 0; left = Math.floor(left / 128)) {
    bytes.push((left % 128) + (left >= 128 ? 128 : 0));
  }
  return Buffer.from(bytes);
}
