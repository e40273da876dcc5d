import { create, type DescMessage, fromBinary, toBinary } from "@bufbuild/protobuf";
import { FileDescriptorProtoSchema, StructSchema } from "@bufbuild/protobuf/wkt";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { AuditService } from "../../gen/coupon/v1/audit_service_pb.js";
import { AuthService } from "../../gen/coupon/v1/auth_service_pb.js";
import { CatalogService } from "../../gen/coupon/v1/catalog_service_pb.js";
import { CouponSchema } from "../../gen/coupon/v1/coupon_pb.js";
import { IssuanceService } from "../../gen/coupon/v1/issuance_service_pb.js";
import { UsageService } from "../../gen/coupon/v1/usage_service_pb.js";
import { UserCouponSchema } from "../../gen/coupon/v1/user_coupon_pb.js";
import { ListUserCouponsResponseSchema, UserCouponService } from "../../gen/coupon/v1/user_coupon_service_pb.js";
import { StatusSchema } from "../../gen/google/rpc/status_pb.js";
import { encode } from "../../src/transport/messages/encode.js";
import { messageOf } from "../support/any-message.js";

const responses = [AuditService, AuthService, CatalogService, IssuanceService, UsageService, UserCouponService].flatMap(
  ({ methods }) => methods.map(({ output }) => output),
);

describe("the bytes are those of toBinary", () => {
  test.for(responses.map((schema) => [schema.typeName, schema] as const))("%s", ([, schema]) => {
    fc.assert(
      fc.property(messageOf(schema), (message) => {
        expect(encode(schema, message).equals(toBinary(schema, message))).toBe(true);
      }),
      { numRuns: 100 },
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
