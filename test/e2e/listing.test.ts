import { timestampDate } from "@bufbuild/protobuf/wkt";
import { afterAll, expect, test } from "vitest";
import { CatalogService } from "../../gen/coupon/v1/catalog_service_pb.js";
import { type Coupon, CouponState } from "../../gen/coupon/v1/coupon_pb.js";
import { UserCouponStatus } from "../../gen/coupon/v1/user_coupon_pb.js";
import { UserCouponService } from "../../gen/coupon/v1/user_coupon_service_pb.js";
import type { GrpcClient } from "../support/clients.js";
import { twoReplicas } from "../support/service.js";
import { callConnect, pathOf } from "./front-ends.js";
import { createSample, issue, readCoupon } from "./samples.js";

const { updateCoupon, pauseCoupon, deleteCoupon } = CatalogService.method;
const { listUserCoupons, getUserCoupon } = UserCouponService.method;

const { replicas, clients } = await twoReplicas(afterAll);
const [here, there] = clients;

async function onlyCoupon(client: GrpcClient, userId: string): Promise<Coupon> {
  const { userCoupons } = await client.call(listUserCoupons, { userId });
  expect(userCoupons).toHaveLength(1);
  return userCoupons[0]!.coupon as Coupon;
}

test("a list shows the coupon as it is now, also after another replica has changed it", async () => {
  const { id } = await createSample(here, { quantity: 3n });
  await issue(here, id, "watcher");
  const listed = () => onlyCoupon(here, "watcher");
  expect(await listed()).toEqual(await readCoupon(there, id));
  expect(await listed()).toMatchObject({ issuedCount: 1n, remainingCount: 2n, state: CouponState.ACTIVE });

  for (const userId of ["second", "third"]) {
    await issue(there, id, userId);
    expect(await listed()).toEqual(await readCoupon(there, id));
  }
  expect(await listed()).toMatchObject({ issuedCount: 3n, remainingCount: 0n, state: CouponState.SOLD_OUT });

  await there.call(updateCoupon, { coupon: { id, name: "é".repeat(150) }, updateMask: { paths: ["name"] } });
  expect(await listed()).toEqual(await readCoupon(there, id));
  await there.call(pauseCoupon, { couponId: id });
  expect(await listed()).toMatchObject({ name: "é".repeat(150), state: CouponState.PAUSED });
  await there.call(deleteCoupon, { couponId: id, revokeIssued: true });
  expect(await listed()).toMatchObject({ state: CouponState.DELETED });
  const { userCoupons } = await here.call(listUserCoupons, { userId: "watcher" });
  expect(userCoupons[0]!.status).toBe(UserCouponStatus.REVOKED);
});

test("lists that are asked for together do not mix", async () => {
  const coupons = await Promise.all(Array.from({ length: 5 }, () => createSample(here)));
  const users = Array.from({ length: 40 }, (_, index) => `together ${index} "é\\`);
  for (const [index, userId] of users.entries()) {
    for (const { id } of coupons.slice(0, index % 6)) await issue(here, id, userId);
  }
  await Promise.all(
    users.map(async (userId, index) => {
      const pageSize = (index % 3) + 1;
      const first = await here.call(listUserCoupons, { userId, pageSize });
      const rest = first.nextPageToken
        ? await here.call(listUserCoupons, { userId, pageSize: 1_000, pageToken: first.nextPageToken })
        : { userCoupons: [], nextPageToken: "" };
      expect(first.userCoupons).toHaveLength(Math.min(pageSize, index % 6));
      expect(rest.nextPageToken).toBe("");
      const all = [...first.userCoupons, ...rest.userCoupons];
      expect(all.map(({ couponId }) => couponId).reverse()).toEqual(coupons.slice(0, index % 6).map(({ id }) => id));
      for (const one of all) {
        expect(one).toMatchObject({ userId, coupon: { id: one.couponId } });
        const { userCoupon } = await there.call(getUserCoupon, { userId, userCouponId: one.id });
        expect({ ...one, coupon: one.coupon?.id }).toEqual({ ...userCoupon, coupon: one.couponId });
        expect(timestampDate(one.issueTime!).getTime()).toBeGreaterThan(Date.now() - 600_000);
      }
    }),
  );
});

test("a user id that is half a character is refused before it could spoil the lists of others", async () => {
  const { id } = await createSample(here);
  await issue(here, id, "neighbour");
  const half = () => callConnect(replicas[0].httpPort, pathOf(listUserCoupons), '{"userId": "\\ud800"}');
  const answers = await Promise.all([...Array.from({ length: 20 }, half), onlyCoupon(here, "neighbour")]);
  const codes = answers.slice(0, 20).map((answer) => "code" in answer && answer.code);
  expect(new Set(codes)).toEqual(new Set(["INVALID_ARGUMENT"]));
});
