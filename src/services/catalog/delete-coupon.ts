import { create } from "@bufbuild/protobuf";
import {
  type DeleteCouponRequest,
  DeleteCouponRequestSchema,
  DeleteCouponResponseSchema,
} from "../../../gen/coupon/v1/catalog_service_pb.js";
import type { CallContext } from "../../domain/call-context.js";
import { Refusal } from "../../domain/refusal.js";
import type { CouponStore } from "../../storage/ports/coupons.js";
import { couponMessage, requestKey } from "../message.js";

export function deleteCoupon(store: CouponStore, invalidate: (couponId: string) => Promise<void>) {
  return async (request: DeleteCouponRequest, context: CallContext) => {
    const id = request.couponId.toLowerCase();
    const deleted = await store.change(
      {
        id,
        revision: Number(request.revision),
        kind: "COUPON_DELETED",
        request: requestKey("DeleteCoupon", DeleteCouponRequestSchema, request),
      },
      (_, now) => ({ deletedAt: now, ...(request.revokeIssued && { revokedAt: now }) }),
      () => invalidate(id),
      context,
    );
    if (deleted instanceof Refusal) return deleted;
    return create(DeleteCouponResponseSchema, { coupon: couponMessage(deleted.value, deleted.now) });
  };
}
