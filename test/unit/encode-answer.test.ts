import { create, fromBinary, toBinary, toJsonString } from "@bufbuild/protobuf";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import {
  BatchCreateCouponsResponseSchema,
  ListCouponsResponseSchema,
  UploadCodesResponseSchema,
} from "../../gen/coupon/v1/catalog_service_pb.js";
import { ListUserCouponsResponseSchema } from "../../gen/coupon/v1/user_coupon_service_pb.js";
import { encodeAnswer, jsonOfLarge, largeList } from "../../src/transport/messages/encode-answer.js";
import { messageOf } from "../support/any-message.js";

const schemas = [
  UploadCodesResponseSchema,
  BatchCreateCouponsResponseSchema,
  ListCouponsResponseSchema,
  ListUserCouponsResponseSchema,
].map((schema) => [schema.typeName, schema] as const);

describe.for(schemas)("%s", ([, schema]) => {
  test("a large answer says the same as a small one would", async () => {
    await fc.assert(
      fc.asyncProperty(messageOf(schema), async (message) => {
        const list = schema.fields.find(({ fieldKind }) => fieldKind === "list")?.localName as string;
        const items = (message as unknown as Record<string, unknown[]>)[list] as unknown[];
        for (let count = items.length; count > 0 && count <= 120; count *= 2) items.push(...items);
        const bytes = await encodeAnswer(schema, message as never);
        expect(fromBinary(schema, bytes)).toEqual(fromBinary(schema, toBinary(schema, message as never)));
        const large = largeList(schema, message);
        expect(large !== undefined).toBe(items.length > 100);
        if (!large) return;
        let expected: string;
        try {
          expected = toJsonString(schema, message as never);
        } catch {
          return;
        }
        fc.pre(expected.isWellFormed());
        expect(JSON.parse((await jsonOfLarge(schema, message as never, large)).toString())).toEqual(
          JSON.parse(expected),
        );
      }),
      { numRuns: 25 },
    );
  });
});

test("a frozen large answer is written once", async () => {
  const outcomes = Array.from({ length: 200 }, () => ({ id: "a" }));
  const answer = Object.freeze(create(ListUserCouponsResponseSchema, { userCoupons: outcomes }));
  const bytes = encodeAnswer(ListUserCouponsResponseSchema, answer);
  expect(bytes).toBeInstanceOf(Promise);
  expect(encodeAnswer(ListUserCouponsResponseSchema, answer)).toBeInstanceOf(Promise);
  const first = await bytes;
  expect(encodeAnswer(ListUserCouponsResponseSchema, answer)).toBe(
    await encodeAnswer(ListUserCouponsResponseSchema, answer),
  );
  expect(fromBinary(ListUserCouponsResponseSchema, first).userCoupons).toHaveLength(200);
});
