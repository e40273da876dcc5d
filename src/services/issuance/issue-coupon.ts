import { create } from "@bufbuild/protobuf";
import { type IssueCouponRequest, IssueCouponResponseSchema } from "../../../gen/coupon/v1/issuance_service_pb.js";
import { UserCouponStatus } from "../../../gen/coupon/v1/user_coupon_pb.js";
import type { CallContext } from "../../domain/call-context.js";
import { Refusal } from "../../domain/refusal.js";
import { newId } from "../../platform/new-id.js";
import { issuedFields } from "../message.js";
import type { Issuer } from "./issuer.js";

export function issueCoupon(issuer: Issuer) {
  return async (request: IssueCouponRequest, context: CallContext) => {
    const couponId = (request.target.value ?? "").toLowerCase();
    const { userId, requestId } = request;
    const issued = await issuer.issue({ couponId, userId, requestId, userCouponId: newId() }, context.deadlineMs);
    if (issued instanceof Refusal) return issued;
    return create(IssueCouponResponseSchema, {
      userCoupon: {
        ...issuedFields(issued.userCoupon, issued.expiresAt),
        status: UserCouponStatus[issued.status],
      },
      replayed: issued.replayed,
    });
  };
}
