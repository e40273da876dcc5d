import { create } from "@bufbuild/protobuf";
import {
  type CancelUsageRequest,
  CancelUsageRequestSchema,
  CancelUsageResponseSchema,
} from "../../../gen/coupon/v1/usage_service_pb.js";
import type { CallContext } from "../../domain/call-context.js";
import { Refusal } from "../../domain/refusal.js";
import type { UsageStore } from "../../storage/ports.js";
import type { GateKeeper } from "../issuance/gate-keeper.js";
import { requestKey, usageMessage } from "../message.js";

export function cancelUsage(store: UsageStore, keeper: GateKeeper) {
  return async (request: CancelUsageRequest, context: CallContext) => {
    const { userId, usageId } = request;
    const key = requestKey("CancelUsage", CancelUsageRequestSchema, request);
    const cancellation = { userId, usageId: usageId.toLowerCase(), request: key };
    const cancelled = await store.cancel(cancellation, context.deadlineMs);
    if (cancelled instanceof Refusal) return cancelled;
    const { usage, freed } = cancelled;
    if (freed) await keeper.forget(usage.couponId);
    return create(CancelUsageResponseSchema, { usage: usageMessage(usage) });
  };
}
