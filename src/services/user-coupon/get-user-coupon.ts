import { create } from "@bufbuild/protobuf";
import {
  type GetUserCouponRequest,
  GetUserCouponResponseSchema,
} from "../../../gen/coupon/v1/user_coupon_service_pb.js";
import type { CallContext } from "../../domain/call-context.js";
import { Refusal } from "../../domain/refusal.js";
import type { UserCouponStore } from "../../storage/ports.js";
import { userCouponMessage } from "../message.js";

export function getUserCoupon(store: UserCouponStore) {
  return async (request: GetUserCouponRequest, context: CallContext) => {
    const found = await store.get(request.userId, request.userCouponId.toLowerCase(), context.deadlineMs);
    if (!found) return new Refusal("USER_COUPON_NOT_FOUND");
    const { userCoupon, coupon } = found.value;
    return create(GetUserCouponResponseSchema, { userCoupon: userCouponMessage(userCoupon, coupon, found.now) });
  };
}
