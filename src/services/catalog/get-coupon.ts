import { create } from "@bufbuild/protobuf";
import { type GetCouponRequest, GetCouponResponseSchema } from "../../../gen/coupon/v1/catalog_service_pb.js";
import type { CallContext } from "../../domain/call-context.js";
import { Refusal } from "../../domain/refusal.js";
import type { CouponStore } from "../../storage/ports/coupons.js";
import { couponMessage } from "../message.js";

export function getCoupon(store: CouponStore) {
  return async (request: GetCouponRequest, context: CallContext) => {
    const found = await store.get(request.couponId.toLowerCase(), context.deadlineMs);
    if (!found) return new Refusal("COUPON_NOT_FOUND");
    return create(GetCouponResponseSchema, { coupon: couponMessage(found.value, found.now) });
  };
}
