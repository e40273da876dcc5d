import { create } from "@bufbuild/protobuf";
import {
  type CreateCouponRequest,
  CreateCouponRequestSchema,
  CreateCouponResponseSchema,
} from "../../../gen/coupon/v1/catalog_service_pb.js";
import type { Coupon as CouponMessage } from "../../../gen/coupon/v1/coupon_pb.js";
import type { CallContext } from "../../domain/call-context.js";
import { type FieldViolation, Refusal } from "../../domain/refusal.js";
import type { CouponStore } from "../../storage/ports/coupons.js";
import { couponMessage, requestKey } from "../message.js";
import { newDefinition } from "./definition.js";

export function createCoupon(store: CouponStore) {
  return async (request: CreateCouponRequest, context: CallContext) => {
    const key = requestKey("CreateCoupon", CreateCouponRequestSchema, request);
    const message = request.coupon as CouponMessage;
    const created = await store.create((now) => newDefinition(message, now), key, context);
    if (created instanceof Refusal) return created;
    return create(CreateCouponResponseSchema, { coupon: couponMessage(created.value, created.now) });
  };
}

/** `now`, which only Postgres knows, may be taken from elsewhere: the coupon is not created anyway. */
export function wrongInCoupon(coupon: CouponMessage | undefined, now: Date): readonly FieldViolation[] {
  const definition = coupon && newDefinition(coupon, now);
  return definition instanceof Refusal ? definition.violations : [];
}
