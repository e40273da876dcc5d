import type { UseCouponsRequest, UseCouponsResponse } from "../../../gen/coupon/v1/usage_service_pb.js";
import type { CallContext } from "../../domain/call-context.js";
import { Refusal } from "../../domain/refusal.js";
import type { UsageStore } from "../../storage/ports/usages.js";
import type { Checkout } from "../../using/checkout.js";
import { checkedLabels, moneyMessage, usageMessage } from "../message.js";
import { takingOneCode } from "./one-code.js";
import { orderOf, wrongInOrder } from "./order.js";

export function useCoupons(checkout: Checkout, store: UsageStore) {
  return takingOneCode(async (request: UseCouponsRequest, context: CallContext) => {
    const labels = checkedLabels(request);
    if (labels instanceof Refusal) return labels;
    const order = await orderOf(request, store, context);
    if (order instanceof Refusal) return order;
    const used = await checkout.use(Object.assign({}, order, { labels }), request.requestId, context.deadlineMs);
    if (used instanceof Refusal) return used;
    const { currencyCode, minorUnits } = order.amount ?? { currencyCode: "", minorUnits: 0 };
    const discount = used.usages.reduce((sum, usage) => sum + usage.discountAmount.minorUnits, 0);
    const before = used.usages[0]?.discountedBefore ?? 0;
    const response: UseCouponsResponse = {
      $typeName: "coupon.v1.UseCouponsResponse",
      usages: used.usages.map(usageMessage),
      discountAmount: moneyMessage({ currencyCode, minorUnits: discount }),
      finalAmount: moneyMessage({ currencyCode, minorUnits: minorUnits - before - discount }),
      replayed: used.replayed,
    };
    return response;
  }, wrongInOrder);
}
