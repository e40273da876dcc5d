import { toBinary, toJsonString } from "@bufbuild/protobuf";
import { EventSchema } from "../../../gen/coupon/v1/event_pb.js";
import type { Event } from "../../domain/event.js";
import type { EventRecord } from "../../publishing/port.js";
import { eventMessage } from "./event-message.js";

export type EventFormat = "protobuf" | "json";

/**
 * An event as a CloudEvent 1.0 in Kafka's binary mode. Codes stay out of it: whoever may read the topic was not asked whether it may read
 * codes.
 */
export function cloudEvent(event: Event, source: string, format: EventFormat): EventRecord {
  const message = eventMessage(event, false);
  const { couponId, userCouponId, happenedAt, kind } = event;
  return {
    key: couponId,
    headers: {
      ce_specversion: "1.0",
      ce_id: message.id,
      ce_source: source,
      ce_type: `coupon.v1.${kind}`,
      ce_time: happenedAt.toISOString(),
      ce_subject: userCouponId ? `user-coupons/${userCouponId}` : `coupons/${couponId}`,
      "content-type": format === "json" ? "application/json" : "application/protobuf",
    },
    value: format === "json" ? Buffer.from(toJsonString(EventSchema, message)) : toBinary(EventSchema, message),
  };
}
