import { create } from "@bufbuild/protobuf";
import { type GetUsageRequest, GetUsageResponseSchema } from "../../../gen/coupon/v1/usage_service_pb.js";
import type { CallContext } from "../../domain/call-context.js";
import { Refusal } from "../../domain/refusal.js";
import type { UsageStore } from "../../storage/ports/usages.js";
import { usageMessage } from "../message.js";

export function getUsage(store: UsageStore) {
  return async (request: GetUsageRequest, context: CallContext) => {
    const usage = await store.get(request.userId, request.usageId.toLowerCase(), context.deadlineMs);
    if (!usage) return new Refusal("USAGE_NOT_FOUND");
    return create(GetUsageResponseSchema, { usage: usageMessage(usage) });
  };
}
