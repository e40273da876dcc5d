import { create } from "@bufbuild/protobuf";
import { type UnlockCouponsRequest, UnlockCouponsResponseSchema } from "../../../gen/coupon/v1/usage_service_pb.js";
import type { CallContext } from "../../domain/call-context.js";
import { type FieldViolation, Refusal } from "../../domain/refusal.js";
import type { UsageStore } from "../../storage/ports/usages.js";
import { takingOneCode, wrongWithOneCode } from "./one-code.js";
import { choicesOf, wrongInChoices } from "./order.js";

export function unlockCoupons(store: UsageStore) {
  return takingOneCode(async (request: UnlockCouponsRequest, context: CallContext) => {
    // Its request id names this call, not the one that has locked.
    const choices = await choicesOf({ ...request, requestId: "" }, store, context.deadlineMs, unnamed(request));
    if (choices instanceof Refusal) return choices;
    const userCouponIds = await store.unlock(request.userId, choices, context.deadlineMs);
    if (!userCouponIds) return new Refusal("USER_COUPON_NOT_FOUND");
    return create(UnlockCouponsResponseSchema, { userCouponIds });
  }, wrongInUnlock);
}

function unnamed({ coupons }: UnlockCouponsRequest): FieldViolation[] {
  return coupons.flatMap(({ lockVersion }, index) =>
    lockVersion === 0n ? [{ field: `coupons[${index}].lock_version`, description: "is required" }] : [],
  );
}

export const wrongInUnlock = wrongWithOneCode((request: UnlockCouponsRequest) => [
  ...wrongInChoices(request),
  ...unnamed(request),
]);
