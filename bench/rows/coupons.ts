import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import { CatalogService } from "../../gen/coupon/v1/catalog_service_pb.js";
import { IssuanceService, IssueCouponRequestSchema } from "../../gen/coupon/v1/issuance_service_pb.js";
import { type Api, encode, pathOf } from "../support/api.js";

const dayMs = 86_400_000;

export const issueMethod = pathOf(IssuanceService.method.issueCoupon);

/** A coupon of which each user may hold one. */
export async function createCoupon(api: Api, quantity: bigint): Promise<string> {
  const { coupon } = await api.call(CatalogService.method.createCoupon, {
    coupon: {
      name: "benchmark",
      discount: { kind: { case: "percentageBasisPoints", value: 1_000 } },
      quantity,
      expireTime: timestampFromMs(Date.now() + dayMs),
    },
    requestId: crypto.randomUUID(),
  });
  return coupon!.id;
}

/** Requests of users who have never asked before, each with a request id of its own. */
export function* issueRequests(couponId: string, count: number): Generator<Uint8Array> {
  const run = crypto.randomUUID().slice(0, 8);
  for (let index = 0; index < count; index += 1) {
    yield encode(IssueCouponRequestSchema, {
      target: { case: "couponId", value: couponId },
      userId: `user-${run}-${index}`,
      requestId: crypto.randomUUID(),
    });
  }
}
