import { create } from "@bufbuild/protobuf";
import {
  type PauseCouponRequest,
  PauseCouponRequestSchema,
  PauseCouponResponseSchema,
} from "../../../gen/coupon/v1/catalog_service_pb.js";
import type { CallContext } from "../../domain/call-context.js";
import { Refusal } from "../../domain/refusal.js";
import type { CouponStore } from "../../storage/ports/coupons.js";
import { couponMessage, requestKey } from "../message.js";

export function pauseCoupon(store: CouponStore, invalidate: (couponId: string) => Promise<void>) {
  return async (request: PauseCouponRequest, context: CallContext) => {
    const id = request.couponId.toLowerCase();
    const changed = await store.change(
      { id, revision: 0, kind: "COUPON_PAUSED", request: requestKey("PauseCoupon", PauseCouponRequestSchema, request) },
      (current, now) => (current.pausedAt ? null : { pausedAt: now }),
      () => invalidate(id),
      context,
    );
    if (changed instanceof Refusal) return changed;
    return create(PauseCouponResponseSchema, { coupon: couponMessage(changed.value, changed.now) });
  };
}
