import { create } from "@bufbuild/protobuf";
import {
  type ResumeCouponRequest,
  ResumeCouponRequestSchema,
  ResumeCouponResponseSchema,
} from "../../../gen/coupon/v1/catalog_service_pb.js";
import type { CallContext } from "../../domain/call-context.js";
import { Refusal } from "../../domain/refusal.js";
import type { CouponStore } from "../../storage/ports/coupons.js";
import { couponMessage, requestKey } from "../message.js";

export function resumeCoupon(store: CouponStore, invalidate: (couponId: string) => Promise<void>) {
  return async (request: ResumeCouponRequest, context: CallContext) => {
    const id = request.couponId.toLowerCase();
    const changed = await store.change(
      {
        id,
        revision: 0,
        kind: "COUPON_RESUMED",
        request: requestKey("ResumeCoupon", ResumeCouponRequestSchema, request),
      },
      (current) => (current.pausedAt ? { pausedAt: null } : null),
      () => invalidate(id),
      context,
    );
    if (changed instanceof Refusal) return changed;
    return create(ResumeCouponResponseSchema, { coupon: couponMessage(changed.value, changed.now) });
  };
}
