import { create } from "@bufbuild/protobuf";
import { type GetStatsRequest, GetStatsResponseSchema } from "../../../gen/coupon/v1/catalog_service_pb.js";
import type { CallContext } from "../../domain/call-context.js";
import { Refusal } from "../../domain/refusal.js";
import type { StatsStore } from "../../storage/ports/stats.js";
import { timestampMessage, typeOf } from "../message.js";

export function getStats(store: StatsStore) {
  return async (request: GetStatsRequest, context: CallContext) => {
    const { scope } = request;
    const couponId = scope.case === "couponId" ? scope.value.toLowerCase() : null;
    const type = scope.case === "type" ? typeOf(scope.value) : null;
    const found = await store.read({ couponId, type }, context.deadlineMs);
    if (!found) return new Refusal("COUPON_NOT_FOUND");
    const stats = Object.fromEntries(Object.entries(found.value).map(([name, count]) => [name, BigInt(count)]));
    return create(GetStatsResponseSchema, { stats, readTime: timestampMessage(found.now) });
  };
}
