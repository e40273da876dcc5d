import type { Money } from "../../../gen/coupon/v1/coupon_pb.js";
import type { CouponChoice } from "../../../gen/coupon/v1/usage_service_pb.js";
import { checkCurrency } from "../../domain/coupon.js";
import { type FieldViolation, invalid, type Refusal } from "../../domain/refusal.js";
import type { Choice, Order } from "../../domain/usage.js";
import { moneyOf } from "../message.js";

/** Beyond every version that will ever be given, and still a number that the store can read. */
const greatestVersion = BigInt(Number.MAX_SAFE_INTEGER);

interface OrderMessage {
  readonly userId: string;
  readonly coupons: readonly CouponChoice[];
  readonly productId: string;
  readonly orderId: string;
  readonly orderAmount?: Money | undefined;
}

/** What quote, lock and use have in common. */
export function orderOf(message: OrderMessage): Order | Refusal {
  const { userId, coupons, productId, orderId, orderAmount } = message;
  const violations: FieldViolation[] = [];
  const choices = choicesOf(coupons, violations);
  const unknown = orderAmount && checkCurrency(orderAmount.currencyCode);
  if (unknown) violations.push({ field: "order_amount.currency_code", description: unknown });
  if (violations.length > 0) return invalid(...violations);
  return { userId, choices, productId, orderId, amount: orderAmount ? moneyOf(orderAmount) : null };
}

/** No user coupon may be named twice. */
export function choicesOf(coupons: readonly CouponChoice[], violations: FieldViolation[]): Choice[] {
  const seen = new Set<string>();
  return coupons.map(({ target, lockVersion }, index) => {
    const userCouponId = (target.value ?? "").toLowerCase();
    if (seen.has(userCouponId)) {
      violations.push({ field: `coupons[${index}].user_coupon_id`, description: "is named twice" });
    }
    seen.add(userCouponId);
    return { userCouponId, lockVersion: Number(lockVersion > greatestVersion ? greatestVersion : lockVersion) };
  });
}
