import {
  create,
  type DescField,
  type DescMessage,
  fromBinary,
  type Message,
  ScalarType,
  toBinary,
} from "@bufbuild/protobuf";
import { FileDescriptorProtoSchema, StructSchema } from "@bufbuild/protobuf/wkt";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { CatalogService } from "../../gen/coupon/v1/catalog_service_pb.js";
import { CouponSchema } from "../../gen/coupon/v1/coupon_pb.js";
import { IssuanceService } from "../../gen/coupon/v1/issuance_service_pb.js";
import { UsageService } from "../../gen/coupon/v1/usage_service_pb.js";
import { UserCouponSchema } from "../../gen/coupon/v1/user_coupon_pb.js";
import { ListUserCouponsResponseSchema, UserCouponService } from "../../gen/coupon/v1/user_coupon_service_pb.js";
import { StatusSchema } from "../../gen/google/rpc/status_pb.js";
import { encode } from "../../src/transport/encode.js";

const maxDepth = 6;
const maxItems = 3;

const text = fc.oneof(
  fc.constantFrom(
    "",
    "a",
    "\u0000",
    "\u007f",
    "\u0080",
    "é",
    "€",
    "😀",
    "x".repeat(64),
    "x".repeat(65),
    "é".repeat(64),
  ),
  fc.string({ unit: "binary", maxLength: 300 }),
  // Halves of surrogate pairs, too.
  fc.array(fc.integer({ min: 0, max: 0xffff }), { maxLength: 5 }).map((codes) => String.fromCharCode(...codes)),
);
const int32 = fc.oneof(fc.constantFrom(0, 1, 127, 128, 16_383, 16_384, 2 ** 31 - 1, -1, -(2 ** 31)), fc.integer());
const edges = [0n, 127n, 128n, 2n ** 31n, 2n ** 32n, 2n ** 53n - 1n, 2n ** 53n, 2n ** 63n - 1n, -1n, -(2n ** 63n)];
const int64 = fc.oneof(fc.constantFrom(...edges), fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n }));

function scalar(field: DescField): fc.Arbitrary<unknown> {
  switch (field.scalar) {
    case ScalarType.STRING:
      return text;
    case ScalarType.BOOL:
      return fc.boolean();
    case ScalarType.INT64:
      return int64;
    default:
      return int32;
  }
}

/** Messages with any of their fields set, as `create` makes them. */
function messageOf(schema: DescMessage, depth = 0): fc.Arbitrary<Message> {
  const one = (field: DescField): fc.Arbitrary<unknown> =>
    field.message ? messageOf(field.message, depth + 1) : scalar(field);
  const fields: Record<string, fc.Arbitrary<unknown>> = {};
  for (const member of schema.members) {
    if (member.kind === "oneof") {
      const cases = member.fields.map((field) => fc.record({ case: fc.constant(field.localName), value: one(field) }));
      fields[member.localName] = fc.option(fc.oneof(...cases), { nil: undefined });
      continue;
    }
    if (member.message && depth >= maxDepth) continue;
    const values = member.fieldKind === "list" ? fc.array(one(member), { maxLength: maxItems }) : one(member);
    fields[member.localName] = fc.option(values, { nil: undefined });
  }
  return fc.record(fields, { requiredKeys: [] }).map((init) => create(schema, init as never) as Message);
}

const responses = [CatalogService, IssuanceService, UsageService, UserCouponService].flatMap(({ methods }) =>
  methods.map(({ output }) => output),
);

describe("the bytes are those of toBinary", () => {
  test.for(responses.map((schema) => [schema.typeName, schema] as const))("%s", ([, schema]) => {
    fc.assert(
      fc.property(messageOf(schema), (message) => {
        expect(encode(schema, message).equals(toBinary(schema, message))).toBe(true);
      }),
      { numRuns: 200 },
    );
  });

  test.for([
    [
      "of types that are left to toBinary: bytes and Any",
      StatusSchema,
      { code: 1, details: [{ typeUrl: "a", value: new Uint8Array(3) }] },
    ],
    ["of proto2", FileDescriptorProtoSchema, { name: "a", publicDependency: [1, 300], options: { deprecated: false } }],
    ["of maps that contain themselves", StructSchema, { fields: { a: { kind: { case: "boolValue", value: true } } } }],
  ] as const)("%s", ([, schema, init]) => {
    const message = create(schema as DescMessage, init as never);
    expect(encode(schema as DescMessage, message).equals(toBinary(schema as DescMessage, message))).toBe(true);
  });

  test("of unknown fields, which are kept", () => {
    const bytes = new Uint8Array([0xa2, 0x06, 1, 7]);
    expect(encode(CouponSchema, fromBinary(CouponSchema, bytes))).toEqual(Buffer.from(bytes));
  });

  test("of messages too large for the scratch, and of the next one", () => {
    for (const length of [200_000, 262_139, 262_140, 262_144, 300_000, 10]) {
      for (const letter of ["x", "é"]) {
        const message = create(ListUserCouponsResponseSchema, { nextPageToken: letter.repeat(length) });
        expect(
          encode(ListUserCouponsResponseSchema, message).equals(toBinary(ListUserCouponsResponseSchema, message)),
        ).toBe(true);
      }
    }
  });
});

test("what toBinary refuses is refused with its words", () => {
  const wrong = create(CouponSchema, { maxPerUser: 2 ** 31 });
  expect(() => encode(CouponSchema, wrong)).toThrow(/cannot encode field coupon.v1.Coupon.max_per_user/);
});

test("a frozen message is written once", () => {
  const message = Object.freeze(create(ListUserCouponsResponseSchema, { nextPageToken: "é" }));
  const bytes = encode(ListUserCouponsResponseSchema, message);
  expect(bytes.equals(toBinary(ListUserCouponsResponseSchema, message))).toBe(true);
  encode(CouponSchema, create(CouponSchema, { name: "another" }));
  expect(encode(ListUserCouponsResponseSchema, message)).toBe(bytes);
  expect(bytes.equals(toBinary(ListUserCouponsResponseSchema, message))).toBe(true);
});

test("a frozen message may stand in several others", () => {
  const coupon = Object.freeze(create(CouponSchema, { id: "a", name: "é", issuedCount: 7n }));
  const messages = ["x", "y"].map((id) => create(UserCouponSchema, { id, coupon }));
  for (const message of [...messages, ...messages]) {
    expect(encode(UserCouponSchema, message).equals(toBinary(UserCouponSchema, message))).toBe(true);
  }
});
