import { create } from "@bufbuild/protobuf";
import {
  type UpdateCouponRequest,
  UpdateCouponRequestSchema,
  UpdateCouponResponseSchema,
} from "../../../gen/coupon/v1/catalog_service_pb.js";
import type { Coupon as CouponMessage } from "../../../gen/coupon/v1/coupon_pb.js";
import type { CallContext } from "../../domain/call-context.js";
import { exhaustionOf } from "../../domain/coupon.js";
import { type FieldViolation, invalid, Refusal } from "../../domain/refusal.js";
import { andAlso } from "../../domain/violations.js";
import { isUuid } from "../../platform/new-id.js";
import type { CouponStore } from "../../storage/ports/coupons.js";
import { couponMessage, requestKey } from "../message.js";
import { changedDefinition, readMask, wrongInChange } from "./definition.js";

export function updateCoupon(store: CouponStore, invalidate: (couponId: string) => Promise<void>) {
  return async (request: UpdateCouponRequest, context: CallContext) => {
    const wrong = wrongInUpdate(request);
    if (wrong.length > 0) return invalid(...wrong);
    const message = request.coupon as CouponMessage;
    const masked = readMask(request.updateMask, []);

    const id = message.id.toLowerCase();
    const updated = await store.change(
      {
        id,
        revision: Number(message.revision),
        kind: "COUPON_UPDATED",
        request: requestKey("UpdateCoupon", UpdateCouponRequestSchema, request),
      },
      (current, now) => {
        const definition = changedDefinition(current, message, masked);
        if (definition instanceof Refusal) return definition;
        if (definition.quantity !== null && definition.quantity < current.issuedCount) {
          const description = `${current.issuedCount} have been issued`;
          return new Refusal("QUANTITY_BELOW_ISSUED", [{ field: "coupon.quantity", description }]);
        }
        if (definition.usageCap !== null && definition.usageCap < current.placeCount) {
          const description = `${current.placeCount} places have been taken`;
          return new Refusal("USAGE_CAP_BELOW_USED", [{ field: "coupon.usage_cap", description }]);
        }
        return { ...definition, exhaustedAt: exhaustionOf(definition.usageCap, current, now) };
      },
      () => invalidate(id),
      context,
    );
    if (updated instanceof Refusal) return updated;
    return create(UpdateCouponResponseSchema, { coupon: couponMessage(updated.value, updated.now) });
  };
}

/** What is wrong whatever the coupon is now. */
export function wrongInUpdate({ coupon, updateMask }: UpdateCouponRequest): readonly FieldViolation[] {
  const violations: FieldViolation[] = [];
  if (coupon && !isUuid(coupon.id)) violations.push({ field: "coupon.id", description: "must be a UUID" });
  const masked = readMask(updateMask, violations);
  return coupon ? andAlso(violations, wrongInChange(coupon, masked)) : violations;
}
