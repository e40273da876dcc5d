import { create } from "@bufbuild/protobuf";
import { durationFromMs } from "@bufbuild/protobuf/wkt";
import {
  type GetCouponActivityRequest,
  type GetCouponActivityResponse,
  GetCouponActivityResponseSchema,
} from "../../../gen/coupon/v1/catalog_service_pb.js";
import { ErrorReason } from "../../../gen/coupon/v1/error_reason_pb.js";
import { activityBoundsMs, type IssueActivity } from "../../issuing/issue-activity.js";
import type { Clock } from "../../platform/clock.js";
import { timestampMessage } from "../message.js";

export function getCouponActivity(activity: Pick<IssueActivity, "of" | "replicaId">, clock: Pick<Clock, "nowMs">) {
  return async ({ couponId }: GetCouponActivityRequest): Promise<GetCouponActivityResponse> => {
    const counted = activity.of(couponId.toLowerCase());
    const outcomes = [...(counted?.outcomes ?? [])].map(([outcome, count]) => ({
      reason: outcome === "OK" ? ErrorReason.UNSPECIFIED : ErrorReason[outcome],
      count: BigInt(count),
    }));
    return create(GetCouponActivityResponseSchema, {
      replicaId: activity.replicaId,
      readTime: timestampMessage(new Date(clock.nowMs())),
      ...(counted && { sinceTime: timestampMessage(new Date(counted.sinceMs)) }),
      outcomes: outcomes.sort((a, b) => a.reason - b.reason),
      latencies: (counted?.latencies ?? []).map((count, index) => {
        const boundMs = activityBoundsMs[index];
        return { count: BigInt(count), ...(boundMs !== undefined && { atMost: durationFromMs(boundMs) }) };
      }),
    });
  };
}
