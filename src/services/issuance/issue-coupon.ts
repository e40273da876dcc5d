import { create } from "@bufbuild/protobuf";
import { type IssueCouponRequest, IssueCouponResponseSchema } from "../../../gen/coupon/v1/issuance_service_pb.js";
import type { CallContext } from "../../domain/call-context.js";
import { Refusal } from "../../domain/refusal.js";
import { newId } from "../../platform/new-id.js";
import { issuedMessage } from "../message.js";
import type { Issuer } from "./issuer.js";

export function issueCoupon(issuer: Issuer) {
  return async (request: IssueCouponRequest, context: CallContext) => {
    const couponId = String(request.target.value).toLowerCase();
    const { userId, requestId } = request;
    const ask = { couponId, userId, requestId, userCouponId: newId() };
    const issued = await issuer.issue(ask, context.deadlineMs);
    if (issued instanceof Refusal) return issued;
    const response = create(IssueCouponResponseSchema);
    response.userCoupon = issuedMessage(issued.userCoupon, issued.expiresAt, issued.status);
    response.replayed = issued.replayed;
    return response;
  };
}
