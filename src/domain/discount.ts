import type { Discount } from "./coupon.js";

/** A discount that one user coupon brings to an order. */
export interface OrderDiscount {
  /** Decides the order of equals. */
  readonly userCouponId: string;
  readonly discount: Discount;
}

export interface DiscountedOrder {
  /** What each one takes off, in the order in which they were given. Minor units. */
  readonly amounts: readonly number[];
  readonly total: number;
  /** What is left to pay; never below zero. */
  readonly final: number;
}

const wholeBasisPoints = 10_000n;

/**
 * What discounts take off an order: one after the other, each from what the ones before it left. Percentages first, the
 * higher before the lower, then fixed amounts, the greater before the smaller. Percentages are rounded down to a whole
 * minor unit. The rule is documented for callers at `UsageService`.
 */
export function applyDiscounts(orderAmount: number, discounts: readonly OrderDiscount[]): DiscountedOrder {
  const amounts = discounts.map(() => 0);
  let left = orderAmount;
  const inTurn = discounts.map((one, index) => ({ ...one, index })).sort(compare);
  for (const { discount, index } of inTurn) {
    const amount = amountOf(discount, left);
    amounts[index] = amount;
    left -= amount;
  }
  return { amounts, total: orderAmount - left, final: left };
}

/** What one discount takes off `left` minor units. */
function amountOf({ kind, maximumAmount }: Discount, left: number): number {
  if (kind.case === "fixedAmount") return Math.min(kind.amount.minorUnits, left);
  // 10^15 minor units times 10,000 basis points is more than a double can hold.
  const share = Number((BigInt(left) * BigInt(kind.basisPoints)) / wholeBasisPoints);
  return maximumAmount ? Math.min(share, maximumAmount.minorUnits) : share;
}

function compare(a: OrderDiscount, b: OrderDiscount): number {
  return weight(b.discount) - weight(a.discount) || (a.userCouponId < b.userCouponId ? -1 : 1);
}

/** Percentages above every fixed amount: those end at 10^15. */
function weight({ kind }: Discount): number {
  return kind.case === "percentage" ? 2e15 + kind.basisPoints : kind.amount.minorUnits;
}

/** The currency of a discount's amounts; null when it has none. */
export function currencyOf({ kind, maximumAmount, minimumOrderAmount }: Discount): string | null {
  const amount = kind.case === "fixedAmount" ? kind.amount : (maximumAmount ?? minimumOrderAmount);
  return amount?.currencyCode ?? null;
}
