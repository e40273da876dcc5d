import { create } from "@bufbuild/protobuf";
import {
  type BatchCreateCouponsRequest,
  BatchCreateCouponsRequestSchema,
  BatchCreateCouponsResponseSchema,
  CreateOutcomeSchema,
} from "../../../gen/coupon/v1/catalog_service_pb.js";
import type { Coupon as CouponMessage } from "../../../gen/coupon/v1/coupon_pb.js";
import type { CallContext } from "../../domain/call-context.js";
import { type FieldViolation, invalid, Refusal } from "../../domain/refusal.js";
import { mapInSlices } from "../../platform/json-slices.js";
import type { CouponStore } from "../../storage/ports/coupons.js";
import { type Explain, itemError } from "../item-error.js";
import { couponMessage } from "../message.js";
import { bulkRequestKey } from "./bulk-request-key.js";
import { newDefinition } from "./definition.js";

export function batchCreateCoupons(
  store: CouponStore,
  /** What CreateCoupon has against a coupon: what the proto file says, and the domain at this time. */
  check: (coupon: CouponMessage, now: Date) => readonly FieldViolation[],
  explain: Explain,
) {
  return async (request: BatchCreateCouponsRequest, context: CallContext) => {
    const key = await bulkRequestKey("BatchCreateCoupons", BatchCreateCouponsRequestSchema, request, "coupons");
    const build = (now: Date) =>
      mapInSlices(request.coupons, (message) => {
        const violations = check(message, now);
        return violations.length > 0 ? invalid(...violations) : newDefinition(message, now);
      });
    const created = await store.createMany(build, key, context);
    if (created instanceof Refusal) return created;
    const outcomes = await mapInSlices(created.value, (one) =>
      create(CreateOutcomeSchema, {
        outcome:
          one instanceof Refusal
            ? { case: "error", value: itemError(one, explain) }
            : { case: "coupon", value: couponMessage(one, created.now) },
      }),
    );
    // Handed over to create(), each would be looked at again.
    const response = create(BatchCreateCouponsResponseSchema);
    response.outcomes = outcomes;
    return response;
  };
}
