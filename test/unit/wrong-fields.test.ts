import { type DescMessage, type JsonValue, toJson } from "@bufbuild/protobuf";
import { describe, expect, test } from "vitest";
import {
  CreateCouponRequestSchema,
  UpdateCouponRequestSchema,
  UploadCodesRequestSchema,
} from "../../gen/coupon/v1/catalog_service_pb.js";
import { UseCouponsRequestSchema } from "../../gen/coupon/v1/usage_service_pb.js";
import { Refusal } from "../../src/domain/refusal.js";
import { andAlso } from "../../src/domain/violations.js";
import { readJson } from "../../src/transport/messages/decode.js";
import { inOrder } from "../../src/transport/messages/field-order.js";
import { Misread } from "../../src/transport/messages/wrong-fields.js";

const read = (schema: DescMessage, json: JsonValue) => readJson(schema, Buffer.from(JSON.stringify(json)), {});
/** The fields that are named, or the message as JSON. */
const outcome = async (schema: DescMessage, json: JsonValue) => {
  const message = await read(schema, json);
  return message instanceof Refusal ? message.violations.map(({ field }) => field) : toJson(schema, message as never);
};

describe("times that exist", () => {
  const daysOf = (year: number, month: number) => new Date(Date.UTC(year, month, 0)).getUTCDate();
  const two = (number: number) => String(number).padStart(2, "0");
  const days = [1900, 1970, 2000, 2023, 2024, 2100, 2400].flatMap((year) =>
    Array.from({ length: 12 }, (_, month) => [28, 29, 30, 31].map((day) => ({ year, month: month + 1, day }))).flat(),
  );

  test("are those of the calendar", async () => {
    for (const { year, month, day } of days) {
      const expireTime = `${year}-${two(month)}-${two(day)}T12:00:00Z`;
      const expected = day <= daysOf(year, month) ? { coupon: { expireTime } } : ["coupon.expire_time"];
      // Asked twice: what was right the last time is not looked at again.
      for (let n = 0; n < 2; n += 1) {
        expect([expireTime, await outcome(CreateCouponRequestSchema, { coupon: { expireTime } })]).toEqual([
          expireTime,
          expected,
        ]);
      }
    }
  });
});

describe("whole numbers", () => {
  test.for([
    ["1e3", "1000"],
    ["1E+3", "1000"],
    ["1.5e1", "15"],
    ["-1500e-2", "-15"],
    ["1.000", "1"],
    ["0e9", "0"],
    ["9007199254740993", "9007199254740993"],
    ["9.223372036854775807e18", "9223372036854775807"],
  ] as const)("%s is %s", async ([written, quantity]) => {
    expect(await outcome(CreateCouponRequestSchema, { coupon: { quantity: written } })).toEqual({
      coupon: { quantity },
    });
  });

  test.for(["0x10", "", " 1", "1e-1", "1.5", "1e19", "9223372036854775808", "1e999", "--1", "1e1e1"])(
    "%s is none",
    async (quantity) => {
      expect(await outcome(CreateCouponRequestSchema, { coupon: { quantity } })).toEqual(["coupon.quantity"]);
    },
  );
});

test("all fields that cannot be read are named, and the rest is read", async () => {
  const misread = await read(UseCouponsRequestSchema, {
    userId: 5,
    productId: "p",
    coupons: [{ lockVersion: "0x1", code: "A" }, 7, { code: "B" }],
  });
  expect(misread).toBeInstanceOf(Misread);
  const { violations, rest } = misread as Misread;
  expect(violations.map(({ field }) => field)).toEqual(["user_id", "coupons[0].lock_version", "coupons[1]"]);
  expect(toJson(UseCouponsRequestSchema, rest as never)).toEqual({
    productId: "p",
    coupons: [{ code: "A" }, {}, { code: "B" }],
  });
});

test("in a list that is read in pieces, items keep their numbers", async () => {
  const lines: JsonValue[] = Array.from({ length: 2_000 }, (_, n) => ({ code: `C${n}` }));
  lines[1_999] = { code: "C", terms: { maxUses: "0x1", expireTime: "2023-02-29T00:00:00Z" } };
  const bulk = { field: UploadCodesRequestSchema.field.lines as never, maxPartsOfItem: 32 };
  const misread = await readJson(UploadCodesRequestSchema, Buffer.from(JSON.stringify({ lines })), { bulk });
  expect((misread as Refusal).violations.map(({ field }) => field)).toEqual([
    "lines[1999].terms.max_uses",
    "lines[1999].terms.expire_time",
  ]);
});

test("masks have their paths in either spelling", async () => {
  const mask = (updateMask: string) => outcome(UpdateCouponRequestSchema, { updateMask });
  expect(await mask("start_time,maxPerUser,name")).toEqual({ updateMask: "startTime,maxPerUser,name" });
  expect(await mask("start__time")).toEqual(["update_mask"]);
});

test("of what a second check finds, what follows from the first one's is left out", () => {
  const of = (field: string, ...about: string[]) => ({ field, description: "", about });
  const named = [of("a.b"), of("c[1]"), of("d", "e.kind")];
  const more = [
    ...[of("a"), of("a.b"), of("a.b.c"), of("a.bc"), of("c"), of("c[1].d"), of("c[10]"), of("e", "e.kind")],
    ...[of("f", "a.b"), of("f")],
  ];
  expect(andAlso(named, more).map(({ field }) => field)).toEqual(["a.b", "c[1]", "d", "a", "a.bc", "c", "c[10]", "f"]);
});

test("the order is that of the proto file", () => {
  const expected = [
    ...["user_id", "coupons", "coupons[0].target", "coupons[0].lock_version", "coupons[2]", "coupons[10].code"],
    ...["product_id", "order_amount.minor_units", "request_id", "colour"],
  ];
  const shuffled = [...expected].reverse().map((field) => ({ field, description: "" }));
  expect(inOrder(UseCouponsRequestSchema, shuffled).map(({ field }) => field)).toEqual(expected);
});

test("a number that JSON.parse has rounded is none", async () => {
  const bytes = Buffer.from('{"coupon":{"revision":9007199254740993,"quantity":9007199254740991}}');
  const misread = await readJson(CreateCouponRequestSchema, bytes, {});
  expect((misread as Refusal).violations.map(({ field }) => field)).toEqual(["coupon.revision"]);
});

describe("a value of the wrong kind is told what it must be", () => {
  const told = async (schema: DescMessage, json: JsonValue) => {
    const refusal = (await read(schema, json)) as Refusal;
    return refusal.violations.map(({ field, description }) => `${field}: ${description}`);
  };

  test.for<[JsonValue, string]>([
    [
      { expireTime: 1_800_000_000 },
      'expire_time: must be a time with a zone, and at most nine decimals: "2027-02-28T23:59:59.5Z"',
    ],
    [
      { expireTime: { seconds: 5 } },
      'expire_time: must be a time with a zone, and at most nine decimals: "2027-02-28T23:59:59.5Z"',
    ],
    [{ validityAfterIssue: 5 }, 'validity_after_issue: must be seconds with at most nine decimals, and an s: "1.5s"'],
    [{ name: [] }, "name: must be a text"],
    [{ stackable: "yes" }, "stackable: must be true or false"],
    [{ maxPerUser: 5e9 }, "max_per_user: must be a whole number from -2147483648 to 2147483647"],
    [{ quantity: 1.5 }, 'quantity: must be a whole number of 64 bits at most, in decimal digits: "1000"'],
    [{ discount: 5 }, "discount: must be an object with the fields of coupon.v1.Discount"],
    [{ labels: [] }, 'labels: must be an object: {"name": "value"}'],
    [{ labels: { a: 5 } }, 'labels: map entry "a": expected string, got 5'],
    [
      { type: 1.5 },
      "type: must be one of COUPON_TYPE_UNSPECIFIED, COUPON_TYPE_FREE, COUPON_TYPE_STANDARD, COUPON_TYPE_MEGADEAL",
    ],
  ])("%j", async ([coupon, description]) => {
    expect(await told(CreateCouponRequestSchema, { coupon })).toEqual([`coupon.${description}`]);
  });

  test("lists, items of lists, masks, and the message itself", async () => {
    expect(await told(UseCouponsRequestSchema, { coupons: 5 })).toEqual(["coupons: must be a list"]);
    expect(await told(UseCouponsRequestSchema, { coupons: [{}, "A", null] })).toEqual([
      "coupons[1]: must be an object with the fields of coupon.v1.CouponChoice",
      "coupons[2]: must be an object with the fields of coupon.v1.CouponChoice",
    ]);
    expect(await told(UpdateCouponRequestSchema, { updateMask: { paths: ["name"] } })).toEqual([
      'update_mask: must be a text of paths with commas between: "name,startTime"',
    ]);
    for (const json of [[], "x", null, 5])
      expect(await told(UploadCodesRequestSchema, json)).toEqual([": must be a JSON object"]);
  });

  test("two of which one may be set are named by what they are one of", async () => {
    expect(await told(UploadCodesRequestSchema, { couponId: "a", type: "COUPON_TYPE_FREE" })).toEqual([
      "target: oneof set multiple times by coupon_id and type",
    ]);
  });
});
