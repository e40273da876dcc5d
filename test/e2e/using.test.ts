import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import { afterAll, beforeAll, expect, test } from "vitest";
import { CatalogService } from "../../gen/coupon/v1/catalog_service_pb.js";
import { IssuanceService } from "../../gen/coupon/v1/issuance_service_pb.js";
import { UsageService } from "../../gen/coupon/v1/usage_service_pb.js";
import { UserCouponService } from "../../gen/coupon/v1/user_coupon_service_pb.js";
import { type Replica, startReplica } from "../support/replica.js";
import { createStores, type TestStores } from "../support/stores.js";

let stores: TestStores;
let replica: Replica;
beforeAll(async () => {
  stores = await createStores();
  replica = await startReplica(stores);
});
afterAll(async () => {
  await replica.stop();
  await stores.drop();
});

test("one life", async () => {
  const c = replica.client;
  const { coupon } = await c.call(CatalogService.method.createCoupon, {
    coupon: {
      name: "x",
      discount: { kind: { case: "percentageBasisPoints", value: 1250 } },
      expireTime: timestampFromMs(Date.now() + 1e8),
      usageCap: 2n,
      quantity: 5n,
    },
  });
  const ids: string[] = [];
  for (const userId of ["a", "b", "c"]) {
    const { userCoupon } = await c.call(IssuanceService.method.issueCoupon, {
      target: { case: "couponId", value: coupon!.id },
      userId,
    });
    ids.push(userCoupon!.id);
  }
  const order = (i: number, lockVersion = 0n) => ({
    userId: "abc"[i]!,
    coupons: [{ target: { case: "userCouponId" as const, value: ids[i]! }, lockVersion }],
    productId: "p",
    orderId: "o",
    orderAmount: { currencyCode: "USD", minorUnits: 999n },
  });
  await c.call(UsageService.method.quoteUsage, order(0));
  const lock = await c.call(UsageService.method.lockCoupons, order(0));
  lock.locks;
  await expect(c.call(UsageService.method.useCoupons, order(0))).rejects.toMatchObject({ reason: "LOCKED" });
  const used = await c.call(UsageService.method.useCoupons, {
    ...order(0, lock.locks[0]!.lockVersion),
    requestId: "r1",
  });
  used;
  expect((await c.call(UsageService.method.useCoupons, { ...order(0), requestId: "r1" })).replayed).toBe(true);
  const used2 = await c.call(UsageService.method.useCoupons, order(1));
  await expect(c.call(UsageService.method.useCoupons, order(2))).rejects.toMatchObject({ reason: "USAGE_CAP_REACHED" });
  (
    await c.call(UsageService.method.cancelUsage, { userId: "b", usageId: used2.usages[0]!.id, requestId: "k" }),
  );
  await expect(c.call(UsageService.method.useCoupons, order(2))).rejects.toMatchObject({ reason: "USAGE_CAP_REACHED" });
  await c.call(UsageService.method.useCoupons, order(1));
  for (const userId of ["a", "b", "c"])
    (await c.call(UserCouponService.method.listUserCoupons, { userId, showUsages: true })).userCoupons[0];
  await expect(
    c.call(IssuanceService.method.issueCoupon, { target: { case: "couponId", value: coupon!.id }, userId: "d" }),
  ).rejects.toMatchObject({ reason: "USAGE_CAP_REACHED" });
  (
    await c.call(UserCouponService.method.deleteUserCoupon, { userId: "c", userCouponId: ids[2]!, restock: true }),
  );
  (
    (await c.call(UsageService.method.listUsages, { couponId: coupon!.id, showCancelled: true })).usages.length,
  );
  (await c.call(CatalogService.method.getCoupon, { couponId: coupon!.id })).coupon;
});
