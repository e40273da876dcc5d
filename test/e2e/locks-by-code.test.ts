import { randomUUID } from "node:crypto";
import { afterAll, describe, expect, test } from "vitest";
import { CatalogService } from "../../gen/coupon/v1/catalog_service_pb.js";
import { IssuanceService } from "../../gen/coupon/v1/issuance_service_pb.js";
import { UsageService } from "../../gen/coupon/v1/usage_service_pb.js";
import { UserCouponStatus } from "../../gen/coupon/v1/user_coupon_pb.js";
import type { GrpcClient } from "../support/clients.js";
import { twoReplicas } from "../support/service.js";
import { read, usd } from "./checkout.js";
import { answerOf } from "./front-ends.js";
import { createSample } from "./samples.js";

const { clients } = await twoReplicas(afterAll);
const [here, there] = clients;

const { lockCoupons, unlockCoupons, useCoupons } = UsageService.method;

/** A code that one user holds twice, and the two checkouts that have locked by it, each through a replica of its own. */
async function lockedTwice() {
  const code = `TWICE-${randomUUID()}`;
  const userId = `user-${randomUUID()}`;
  const book = await createSample(here, { codeBook: {}, maxPerUser: 2, quantity: undefined, stackable: true });
  const target = { case: "code" as const, value: code };
  await here.call(CatalogService.method.uploadCodes, {
    target: { case: "couponId", value: book.id },
    lines: [{ code, terms: { maxHolders: 2 } }],
  });
  for (const client of clients) await client.call(IssuanceService.method.issueCoupon, { target, userId });
  const orderOf = () => ({ productId: "ride", orderId: randomUUID(), orderAmount: usd(10_000) });
  const lock = async (client: GrpcClient) => {
    const { locks } = await client.call(lockCoupons, { userId, code, ...orderOf() });
    const { userCouponId, lockVersion } = locks[0]!;
    return { userCouponId, lockVersion };
  };
  return {
    checkouts: [await lock(here), await lock(there)] as const,
    unlock: async (client: GrpcClient, lockVersion: bigint) =>
      (await client.call(unlockCoupons, { userId, code, lockVersion })).userCouponIds,
    use: (client: GrpcClient, lockVersion: bigint) =>
      client.call(useCoupons, { userId, code, lockVersion, ...orderOf() }),
    /** Both in one order, for which the code is written in two ways. */
    useBoth: (client: GrpcClient, versions: readonly bigint[], request: { orderId: string; requestId: string }) =>
      client.call(useCoupons, {
        ...{ userId, ...orderOf(), ...request },
        coupons: versions.map((lockVersion, index) => ({
          target: { case: "code" as const, value: index === 0 ? code : code.toLowerCase() },
          lockVersion,
        })),
      }),
    statusOf: async (userCouponId: string) => (await read(here, userId, userCouponId)).status,
  };
}

describe("of two locks that one user got by one code, a version", () => {
  test.each([
    [0, 1],
    [1, 0],
  ] as const)("names its own to UnlockCoupons, also when that comes twice (%i first)", async (first, second) => {
    const { checkouts, unlock, statusOf } = await lockedTwice();
    const [one, other] = [checkouts[first], checkouts[second]];
    expect(one.userCouponId).not.toBe(other.userCouponId);
    expect(await unlock(here, one.lockVersion)).toEqual([one.userCouponId]);
    expect(await unlock(there, one.lockVersion)).toEqual([]);
    expect(await statusOf(one.userCouponId)).toBe(UserCouponStatus.READY);
    expect(await statusOf(other.userCouponId)).toBe(UserCouponStatus.LOCKED);
    expect(await unlock(there, other.lockVersion)).toEqual([other.userCouponId]);
  });

  test("names its own to UseCoupons", async () => {
    const { checkouts, use, statusOf } = await lockedTwice();
    const [one, other] = checkouts;
    expect((await use(there, other.lockVersion)).usages).toMatchObject([{ userCouponId: other.userCouponId }]);
    expect((await answerOf(use(here, other.lockVersion))).code).toBe("FAILED_PRECONDITION");
    expect(await statusOf(one.userCouponId)).toBe(UserCouponStatus.LOCKED);
    expect((await use(here, one.lockVersion)).usages).toMatchObject([{ userCouponId: one.userCouponId }]);
  });

  test.each([
    [0, 1],
    [1, 0],
  ] as const)("names its own in an order with both, also when that is repeated (%i first)", async (first, second) => {
    const { checkouts, useBoth } = await lockedTwice();
    const named = [checkouts[first], checkouts[second]];
    const request = { orderId: randomUUID(), requestId: randomUUID() };
    const versions = named.map(({ lockVersion }) => lockVersion);
    const used = await useBoth(here, versions, request);
    expect(used.usages.map(({ userCouponId }) => userCouponId)).toEqual(named.map(({ userCouponId }) => userCouponId));
    expect(await useBoth(there, versions, request)).toEqual({ ...used, replayed: true });
  });
});
