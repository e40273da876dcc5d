import { Refusal } from "../domain/refusal.js";
import { type ChosenCoupon, keptPlaces, type Order, type UseRefusal } from "../domain/usage.js";
import { newId } from "../platform/new-id.js";
import type { LockRequest, UseRequest } from "../storage/ports/usages.js";
import type { JudgedOrder } from "./checkout.js";

/** Names the order, if the request names one. Neither name has a line feed. */
function keysOfOrder({ userId, orderId }: Pick<LockRequest, "userId" | "orderId">): string[] {
  return orderId === "" ? [] : [`o ${userId}\n${orderId}`];
}

const couponOf = ({ couponId }: Pick<LockRequest, "couponId">) => couponId;

/** What keeps locks, and uses, out of one batch. */
export const lockKeys = { keysOf: keysOfOrder, couponOf };
export const useKeys = {
  keysOf: (request: UseRequest) =>
    request.requestId ? [...keysOfOrder(request), `r ${request.requestId}`] : keysOfOrder(request),
  couponOf,
};

/** What is asked of Postgres for an order that nothing speaks against. */
export function useRequests(
  order: Order,
  requestId: string,
  judged: JudgedOrder,
): (UseRequest & { needsPlace: boolean })[] {
  const { userId, productId, orderId, amount, choices, labels = null } = order;
  return choices.map(({ userCouponId, lockVersion }, item) => {
    const { coupon, userCoupon } = judged.chosen[item] as ChosenCoupon;
    return {
      usageId: newId(judged.now.getTime()),
      couponId: coupon.id,
      revision: coupon.revision,
      updatedAt: coupon.updatedAt,
      userCouponId,
      userId,
      lockVersion,
      productId,
      orderId,
      orderAmount: amount as NonNullable<typeof amount>,
      discountAmount: judged.discounted?.amounts[item] ?? 0,
      orderMark: judged.standing.mark,
      discountedBefore: judged.discountedBefore,
      facts: { code: userCoupon.code, couponType: coupon.type, couponName: coupon.name },
      labels,
      requestId,
      item,
      needsPlace: coupon.usageCap !== null && keptPlaces(userCoupon) === 0,
      placeTaken: false,
    };
  });
}

/** What became of one item of an order. */
export interface Result {
  readonly outcome: string;
  readonly reason?: UseRefusal;
}

/** The refusal of an order by what became of its items. */
export function refusalOfResults(results: readonly Result[]): Refusal {
  const preconditions = results.flatMap(({ reason }, index) =>
    reason ? [{ reason, field: `coupons[${index}]` }] : [],
  );
  const [first] = preconditions;
  if (!first) throw new Error(`an order was refused without a reason: ${results.map(({ outcome }) => outcome)}`);
  return new Refusal(first.reason, [], undefined, { preconditions });
}
