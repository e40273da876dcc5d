import type { MessageInitShape } from "@bufbuild/protobuf";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import { CatalogService } from "../../gen/coupon/v1/catalog_service_pb.js";
import type { Coupon, CouponSchema } from "../../gen/coupon/v1/coupon_pb.js";
import { IssuanceService } from "../../gen/coupon/v1/issuance_service_pb.js";
import type { UserCoupon } from "../../gen/coupon/v1/user_coupon_pb.js";
import type { GrpcClient } from "../support/clients.js";
import { until } from "../support/until.js";

const dayMs = 86_400_000;

export type CouponInit = Exclude<MessageInitShape<typeof CouponSchema>, Coupon>;

/** A coupon that is issued from now on until tomorrow. */
export function sampleCoupon(fields: CouponInit = {}): CouponInit {
  return {
    name: "Ten percent",
    discount: { kind: { case: "percentageBasisPoints", value: 1_000 } },
    expireTime: timestampFromMs(Date.now() + dayMs),
    ...fields,
  };
}

export async function createSample(client: GrpcClient, fields: CouponInit = {}): Promise<Coupon> {
  const { coupon } = await client.call(CatalogService.method.createCoupon, { coupon: sampleCoupon(fields) });
  return coupon as Coupon;
}

export async function readCoupon(client: GrpcClient, couponId: string): Promise<Coupon> {
  const { coupon } = await client.call(CatalogService.method.getCoupon, { couponId });
  return coupon as Coupon;
}

export function issue(client: GrpcClient, couponId: string, userId: string, requestId = "") {
  return client.call(IssuanceService.method.issueCoupon, {
    target: { case: "couponId", value: couponId },
    userId,
    requestId,
  });
}

export async function issued(client: GrpcClient, couponId: string, userId: string): Promise<UserCoupon> {
  return (await issue(client, couponId, userId)).userCoupon as UserCoupon;
}

/** Waits until the clock that decides, which is this machine's, has passed a moment. */
export async function untilPassed(ms: number): Promise<void> {
  await until("the moment has passed", () => Date.now() > ms);
}
