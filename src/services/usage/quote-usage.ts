import { create } from "@bufbuild/protobuf";
import { ErrorReason } from "../../../gen/coupon/v1/error_reason_pb.js";
import { type QuoteUsageRequest, QuoteUsageResponseSchema } from "../../../gen/coupon/v1/usage_service_pb.js";
import type { CallContext } from "../../domain/call-context.js";
import type { Money } from "../../domain/coupon.js";
import { type Reason, Refusal } from "../../domain/refusal.js";
import type { UsageStore } from "../../storage/ports/usages.js";
import type { Checkout } from "../../using/checkout.js";
import { moneyMessage } from "../message.js";
import { takingOneCode } from "./one-code.js";
import { nobody, orderOf, wrongInOrder } from "./order.js";

export function quoteUsage(checkout: Checkout, store: UsageStore, messageOf: (reason: Reason) => string) {
  return takingOneCode(async (request: QuoteUsageRequest, context: CallContext) => {
    const order = await orderOf(request, store, context);
    if (order instanceof Refusal) return order;
    const { objections, discounted, discountedBefore, chosen } = await checkout.judge(order, context.deadlineMs);
    const { currencyCode, minorUnits } = order.amount as Money;
    const money = (amount: number) => moneyMessage({ currencyCode, minorUnits: amount });
    return create(QuoteUsageResponseSchema, {
      quotes: order.choices.map(({ userCouponId }, index) => ({
        userCouponId: userCouponId === nobody ? "" : userCouponId,
        couponId: chosen[index]?.coupon.id ?? "",
        discountAmount: money(discounted?.amounts[index] ?? 0),
        objections: (objections[index] ?? []).map((reason) => ({
          reason: ErrorReason[reason],
          message: messageOf(reason),
        })),
      })),
      discountAmount: money(discounted?.total ?? 0),
      finalAmount: money(discounted?.final ?? minorUnits - discountedBefore),
      usable: objections.every((reasons) => reasons.length === 0),
    });
  }, wrongInOrder);
}
