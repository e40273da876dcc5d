import { randomUUID } from "node:crypto";
import { create } from "@bufbuild/protobuf";
import {
  type CancelUsageRequest,
  CancelUsageRequestSchema,
  CancelUsageResponseSchema,
} from "../../../gen/coupon/v1/usage_service_pb.js";
import type { CallContext } from "../../domain/call-context.js";
import { type FieldViolation, invalid, Refusal, requestIdReused } from "../../domain/refusal.js";
import type { Cancels } from "../../using/cancels.js";
import { requestKey, usageMessage } from "../message.js";

export function cancelUsage(cancels: Cancels) {
  return async (request: CancelUsageRequest, { deadlineMs, trace }: CallContext) => {
    const { userId, usageId, userCouponId } = request;
    const wrong = wrongInCancel(request);
    if (wrong.length > 0) return invalid(...wrong);
    const named = usageId === "" ? { userCouponId: userCouponId.toLowerCase() } : { usageId: usageId.toLowerCase() };
    // Without a request id the call still needs a name, for its own batch may be sent twice.
    const key = requestKey("CancelUsage", CancelUsageRequestSchema, request) ?? {
      requestId: randomUUID(),
      inputHash: new Uint8Array(),
    };
    const result = await cancels.submit({ userId, ...named, request: key }, deadlineMs, trace);
    if (result.outcome === "CANCELLED") {
      return create(CancelUsageResponseSchema, { usage: usageMessage(result.usage) });
    }
    return result.reason === "REQUEST_ID_REUSED" ? requestIdReused() : new Refusal(result.reason);
  };
}

export function wrongInCancel({ usageId, userCouponId }: CancelUsageRequest): FieldViolation[] {
  if (usageId === "" && userCouponId === "") {
    return [{ field: "usage_id", description: "is required, unless user_coupon_id is set" }];
  }
  if (usageId === "" || userCouponId === "") return [];
  return [{ field: "user_coupon_id", description: "must be empty when usage_id is set" }];
}
