import { create } from "@bufbuild/protobuf";
import { type ListUsagesRequest, ListUsagesResponseSchema } from "../../../gen/coupon/v1/usage_service_pb.js";
import type { CallContext } from "../../domain/call-context.js";
import { Refusal } from "../../domain/refusal.js";
import type { UsageStore } from "../../storage/ports/usages.js";
import { usageMessage } from "../message.js";
import { nextPageToken, readPage } from "../page-token.js";

export function listUsages(store: UsageStore) {
  return async (request: ListUsagesRequest, context: CallContext) => {
    const { userId, productId, orderId, showCancelled } = request;
    const filter = { userId, couponId: request.couponId.toLowerCase(), productId, orderId, showCancelled };
    const parameters = ["ListUsages", ...Object.values(filter)];
    const page = readPage(request, parameters);
    if (page instanceof Refusal) return page;
    const { rows, next } = await store.list(filter, page, context.deadlineMs);
    return create(ListUsagesResponseSchema, {
      usages: rows.map(usageMessage),
      nextPageToken: nextPageToken(next, parameters),
    });
  };
}
