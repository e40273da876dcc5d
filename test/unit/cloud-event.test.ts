import { fromBinary, fromJsonString } from "@bufbuild/protobuf";
import { expect, test } from "vitest";
import { EventKind, EventSchema } from "../../gen/coupon/v1/event_pb.js";
import type { Event } from "../../src/domain/event.js";
import { cloudEvent } from "../../src/services/event/cloud-event.js";

const event: Event = {
  position: { seq: 12, xid: "345" },
  ...{ kind: "USER_COUPON_ISSUED", happenedAt: new Date("2026-11-10T10:00:00.123Z") },
  ...{ couponId: "c", couponType: "MEGADEAL", couponRevision: null, userId: "u", userCouponId: "uc" },
  ...{ usage: null, code: "SECRET-CODE", labels: { shop: "a" }, count: null },
};
const headers = {
  ...{ ce_specversion: "1.0", ce_id: "12-345", ce_source: "/s", ce_type: "coupon.v1.USER_COUPON_ISSUED" },
  ...{ ce_time: "2026-11-10T10:00:00.123Z", ce_subject: "user-coupons/uc" },
};

test("an event is a CloudEvent, with the coupon as its key, in either format, and without a code", () => {
  const wanted = {
    id: "12-345",
    kind: EventKind.USER_COUPON_ISSUED,
    couponId: "c",
    userId: "u",
    code: "",
    labels: { shop: "a" },
  };
  const binary = cloudEvent(event, "/s", "protobuf");
  expect(binary).toMatchObject({ key: "c", headers: { ...headers, "content-type": "application/protobuf" } });
  expect(fromBinary(EventSchema, binary.value)).toMatchObject(wanted);
  const json = cloudEvent(event, "/s", "json");
  expect(json.headers).toEqual({ ...headers, "content-type": "application/json" });
  expect(fromJsonString(EventSchema, Buffer.from(json.value).toString())).toMatchObject(wanted);
});

test("an event of no user coupon is about its coupon; a kind of a later release keeps its name", () => {
  const { headers: of } = cloudEvent({ ...event, kind: "COUPON_MELTED", userCouponId: null }, "/s", "json");
  expect(of).toMatchObject({ ce_type: "coupon.v1.COUPON_MELTED", ce_subject: "coupons/c" });
});
