import { create } from "@bufbuild/protobuf";
import { type UnlockCouponsRequest, UnlockCouponsResponseSchema } from "../../../gen/coupon/v1/usage_service_pb.js";
import type { CallContext } from "../../domain/call-context.js";
import { type FieldViolation, invalid, Refusal } from "../../domain/refusal.js";
import type { UsageStore } from "../../storage/ports.js";
import { choicesOf } from "./order.js";

export function unlockCoupons(store: UsageStore) {
  return async ({ userId, coupons }: UnlockCouponsRequest, context: CallContext) => {
    const violations: FieldViolation[] = [];
    const choices = choicesOf(coupons, violations);
    choices.forEach(({ lockVersion }, index) => {
      if (lockVersion === 0) violations.push({ field: `coupons[${index}].lock_version`, description: "is required" });
    });
    if (violations.length > 0) return invalid(...violations);
    const userCouponIds = await store.unlock(userId, choices, context.deadlineMs);
    if (!userCouponIds) return new Refusal("USER_COUPON_NOT_FOUND");
    return create(UnlockCouponsResponseSchema, { userCouponIds });
  };
}
