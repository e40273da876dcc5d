import { create } from "@bufbuild/protobuf";
import { describe, expect, test } from "vitest";
import {
  BatchCreateCouponsRequestSchema,
  CreateCouponRequestSchema,
  UpdateCouponRequestSchema,
} from "../../gen/coupon/v1/catalog_service_pb.js";
import { checkLabels, type Labels, maxLabelBytes, sameLabels } from "../../src/domain/labels.js";
import { isOrderOf, type Order, type Usage } from "../../src/domain/usage.js";
import { bulkRequestKey } from "../../src/services/catalog/bulk-request-key.js";
import { checkedLabels, requestKey } from "../../src/services/message.js";

const turned = (labels: Record<string, string>) => Object.fromEntries(Object.entries(labels).reverse());

test.for<[string, Labels | null, Labels | null, boolean]>([
  ["none and none", null, null, true],
  ["none and some", null, { a: "1" }, false],
  ["some and none", { a: "1" }, null, false],
  ["the same", { a: "1", b: "2" }, { a: "1", b: "2" }, true],
  ["the same in another order", { a: "1", b: "2" }, { b: "2", a: "1" }, true],
  ["another value", { a: "1" }, { a: "2" }, false],
  ["another key", { a: "1" }, { b: "1" }, false],
  ["one more", { a: "1" }, { a: "1", b: "2" }, false],
  ["one less", { a: "1", b: "2" }, { a: "1" }, false],
  ["values that changed places", { a: "1", b: "2" }, { a: "2", b: "1" }, false],
  ["a key that every object seems to have", { constructor: "1" }, { b: "1" }, false],
])("%s: are they the same", ([, a, b, same]) => {
  expect(sameLabels(a, b)).toBe(same);
});

const ofBytes = (count: number): Labels => {
  const labels: Record<string, string> = {};
  for (let left = count; left > 0; left -= 256) labels[`k${left}`.padEnd(6, "-")] = "v".repeat(Math.min(250, left - 6));
  return labels;
};

test.for<[string, Labels, boolean]>([
  ["none", {}, true],
  ["as much as may be", ofBytes(maxLabelBytes), true],
  ["a byte more", { ...ofBytes(maxLabelBytes), a: "" }, false],
  ["characters of several bytes", { k: "é".repeat(maxLabelBytes / 2) }, false],
  ["half of a character", { k: "\ud800" }, false],
])("%s: may it be kept", ([, labels, may]) => {
  expect(checkLabels(labels) === undefined).toBe(may);
  const checked = checkedLabels({ labels });
  if (!may) expect(checked).toMatchObject({ reason: "INVALID_FIELD", violations: [{ field: "labels" }] });
  else expect(checked).toEqual(Object.keys(labels).length === 0 ? null : labels);
});

describe("a repeated request", () => {
  const labels = { b: "2", a: "1", C: "3", "10": "x", "9": "y" };
  const others = { ...labels, a: "2" };
  const hashOf = (given: Record<string, string>) =>
    requestKey(
      "CreateCoupon",
      CreateCouponRequestSchema,
      create(CreateCouponRequestSchema, { coupon: { name: "n", labels: given }, requestId: "r" }),
    )?.inputHash;

  test("may have its labels in any order, and no others", () => {
    expect(hashOf(turned(labels))).toEqual(hashOf(labels));
    expect(hashOf(others)).not.toEqual(hashOf(labels));
    expect(hashOf({})).not.toEqual(hashOf(labels));
  });

  test("is the same without labels as it was before there were any", () => {
    const request = create(UpdateCouponRequestSchema, { coupon: { id: "i", name: "n" }, requestId: "r" });
    const { inputHash } = requestKey("UpdateCoupon", UpdateCouponRequestSchema, request)!;
    expect(Buffer.from(inputHash).toString("hex")).toBe(
      "cabaed4f2b92eeaabe588234da9e2b13e56106ed2ed17ddcb873695def2e2635",
    );
  });

  test("of many coupons may have them in any order, too", async () => {
    const bulkHashOf = async (given: Record<string, string>) => {
      const request = create(BatchCreateCouponsRequestSchema, { coupons: [{}, { labels: given }], requestId: "r" });
      return (await bulkRequestKey("BatchCreateCoupons", BatchCreateCouponsRequestSchema, request, "coupons"))
        ?.inputHash;
    };
    expect(await bulkHashOf(turned(labels))).toEqual(await bulkHashOf(labels));
    expect(await bulkHashOf(others)).not.toEqual(await bulkHashOf(labels));
  });

  test.for<[string, Labels | null, Labels | null | undefined, boolean, boolean]>([
    ["without any", null, undefined, true, true],
    ["with the same", { a: "1" }, { a: "1" }, true, true],
    ["with others", { a: "1" }, { a: "2" }, true, false],
    ["without those of the first", { a: "1" }, null, true, false],
    ["with some where the first had none", null, { a: "1" }, true, false],
    ["with some, after an older release has stored the first", null, { a: "1" }, false, true],
  ])("of a use %s", ([, stored, given, isComplete, same]) => {
    const amount = { currencyCode: "USD", minorUnits: 1 };
    const of = { userId: "u", productId: "p", orderId: "o" };
    const usage = { ...of, userCouponId: "c", orderAmount: amount, labels: stored, isComplete } as unknown as Usage;
    const order: Order = {
      ...of,
      amount,
      choices: [{ userCouponId: "c", lockVersion: 0 }],
      ...(given !== undefined && { labels: given }),
    };
    expect(isOrderOf([usage], order)).toBe(same);
  });
});
