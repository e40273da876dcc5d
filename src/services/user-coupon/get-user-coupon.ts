import { create } from "@bufbuild/protobuf";
import {
  type GetUserCouponRequest,
  GetUserCouponResponseSchema,
} from "../../../gen/coupon/v1/user_coupon_service_pb.js";
import type { CallContext } from "../../domain/call-context.js";
import { Refusal } from "../../domain/refusal.js";
import type { UsageStore } from "../../storage/ports/usages.js";
import type { UserCouponStore } from "../../storage/ports/user-coupons.js";
import { usageMessage, userCouponMessage } from "../message.js";

/** Usages in one answer; the proto file says so. */
export const maxUsages = 1_000;

export function getUserCoupon(store: UserCouponStore, usages: UsageStore) {
  return async ({ userId, userCouponId }: GetUserCouponRequest, { deadlineMs }: CallContext) => {
    const found = await store.get(userId, userCouponId.toLowerCase(), deadlineMs);
    if (!found) return new Refusal("USER_COUPON_NOT_FOUND");
    const { userCoupon, coupon } = found.value;
    const message = userCouponMessage(userCoupon, coupon, found.now);
    if (userCoupon.placeCount > 0) {
      message.usages = (await usages.ofUserCoupons(userId, [userCoupon.id], maxUsages, deadlineMs)).map(usageMessage);
    }
    return create(GetUserCouponResponseSchema, { userCoupon: message });
  };
}
