import { create } from "@bufbuild/protobuf";
import {
  type SetCallerLimitsRequest,
  SetCallerLimitsRequestSchema,
  SetCallerLimitsResponseSchema,
} from "../../../gen/coupon/v1/auth_service_pb.js";
import type { CallContext } from "../../domain/call-context.js";
import { Refusal } from "../../domain/refusal.js";
import type { CallerStore } from "../../storage/ports/callers.js";
import { requestKey } from "../message.js";
import { limitsMessage, ownLimitsOf } from "./limits-message.js";

export function setCallerLimits(store: Pick<CallerStore, "setLimits">) {
  return async (request: SetCallerLimitsRequest, context: CallContext) => {
    const key = requestKey("SetCallerLimits", SetCallerLimitsRequestSchema, request);
    const held = await store.setLimits(request.caller, ownLimitsOf(request.limits), key, context);
    if (held instanceof Refusal) return held;
    return create(SetCallerLimitsResponseSchema, { limits: limitsMessage(held.limits) });
  };
}
