import { create } from "@bufbuild/protobuf";
import { type GetCallerLimitsRequest, GetCallerLimitsResponseSchema } from "../../../gen/coupon/v1/auth_service_pb.js";
import type { CallContext } from "../../domain/call-context.js";
import { Refusal } from "../../domain/refusal.js";
import type { CallerStore } from "../../storage/ports/callers.js";
import { limitsMessage } from "./limits-message.js";

export function getCallerLimits(store: Pick<CallerStore, "getLimits">) {
  return async (request: GetCallerLimitsRequest, context: CallContext) => {
    const held = await store.getLimits(request.caller, context.deadlineMs);
    if (held instanceof Refusal) return held;
    return create(GetCallerLimitsResponseSchema, { limits: limitsMessage(held.limits) });
  };
}
