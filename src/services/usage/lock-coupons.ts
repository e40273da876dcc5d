import { create } from "@bufbuild/protobuf";
import { type LockCouponsRequest, LockCouponsResponseSchema } from "../../../gen/coupon/v1/usage_service_pb.js";
import type { CallContext } from "../../domain/call-context.js";
import { Refusal } from "../../domain/refusal.js";
import type { UsageStore } from "../../storage/ports/usages.js";
import type { Checkout } from "../../using/checkout.js";
import { timestampMessage } from "../message.js";
import { takingOneCode } from "./one-code.js";
import { orderOf, wrongInOrder } from "./order.js";

export function lockCoupons(checkout: Checkout, store: UsageStore) {
  return takingOneCode(async (request: LockCouponsRequest, context: CallContext) => {
    const order = await orderOf(request, store, context);
    if (order instanceof Refusal) return order;
    const locks = await checkout.lock(order, request.requestId, context.deadlineMs);
    if (locks instanceof Refusal) return locks;
    return create(LockCouponsResponseSchema, {
      locks: locks.map(({ userCouponId, version, until }) => ({
        userCouponId,
        lockVersion: BigInt(version),
        expireTime: timestampMessage(until),
      })),
    });
  }, wrongInOrder);
}
