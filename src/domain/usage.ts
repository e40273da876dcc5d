import type { CallTrace } from "./call-context.js";
import type { Coupon, CouponType, Discount, Money } from "./coupon.js";
import { applyDiscounts, currencyOf, type DiscountedOrder } from "./discount.js";
import { type Labels, sameLabels } from "./labels.js";
import { type Reason, Refusal } from "./refusal.js";
import { expiryOf, type UserCoupon } from "./user-coupon.js";

/** The record of one use of one user coupon. */
export interface Usage {
  readonly id: string;
  readonly userCouponId: string;
  readonly couponId: string;
  readonly userId: string;
  readonly productId: string;
  readonly orderId: string;
  readonly orderAmount: Money;
  readonly discountAmount: Money;
  /** What other calls with the same order had taken off before; minor units. */
  readonly discountedBefore: number;
  readonly usedAt: Date;
  readonly cancelledAt: Date | null;
  /** The code that the user coupon carries; null: none. */
  readonly code: string | null;
  /** What the coupon had then. */
  readonly couponType: CouponType | null;
  readonly couponName: string;
  /** null: none. */
  readonly labels: Labels | null;
  /** False: it was stored by a release that knew no labels, and no names and types of coupons: those are what they are now. */
  readonly isComplete: boolean;
}

/** What a checkout names: the same for quote, lock and use. */
export interface Order {
  readonly userId: string;
  readonly choices: readonly Choice[];
  readonly productId: string;
  readonly orderId: string;
  /** null: not known yet. */
  readonly amount: Money | null;
  /** What is to be kept with its usages. Absent or null: nothing. */
  readonly labels?: Labels | null;
  /** Of the call that names it, if it is traced. */
  readonly trace?: CallTrace | undefined;
}

/** What stands of an order already: the uses of earlier calls by the same user with the same order. */
export interface StandingUses {
  readonly count: number;
  /** What they take off together. Minor units. */
  readonly discounted: number;
  /** Whether all of them are of coupons that may be combined with others. */
  readonly stackable: boolean;
  /** What each of them was told that the order amounts to. null: there are none, or they were told different amounts. */
  readonly amount: Money | null;
  /** Names exactly these uses. "": none. */
  readonly mark: string;
}

export const noStandingUses: StandingUses = { count: 0, discounted: 0, stackable: true, amount: null, mark: "" };

export interface Choice {
  readonly userCouponId: string;
  /** The version of the lock that the caller holds; 0: none. */
  readonly lockVersion: number;
  /** The code by which the caller named it. Absent: it was named by its id. */
  readonly code?: string;
}

/** A user coupon that a choice names, as it stands. */
export interface ChosenCoupon {
  readonly userCoupon: UserCoupon;
  readonly coupon: Coupon;
  readonly lockVersion: number;
  /** Names the call that was granted the lock. */
  readonly lockToken: string | null;
}

/** Reasons against using a user coupon, in the order in which they are checked and answered. */
export type UseRefusal = Extract<
  Reason,
  | "USER_COUPON_NOT_FOUND"
  | "CODE_NOT_FOUND"
  | "USER_COUPON_RELEASED"
  | "ALREADY_USED"
  | "USER_COUPON_REVOKED"
  | "USAGE_CAP_REACHED"
  | "USER_COUPON_EXPIRED"
  | "LOCKED"
  | "LOCK_LOST"
  | "NOT_STACKABLE"
  | "ORDER_MISMATCH"
  | "CURRENCY_MISMATCH"
  | "MINIMUM_ORDER_NOT_REACHED"
>;

export interface Judgement {
  /** Every reason against each choice, in the order of the request. */
  readonly objections: readonly (readonly UseRefusal[])[];
  /** What those without an objection take off of what is left. null: the order amount is not known. */
  readonly discounted: DiscountedOrder | null;
  /** What earlier calls had taken off of the order. Minor units. */
  readonly discountedBefore: number;
}

/**
 * Judges an order: every reason against every choice, and what the others take off. `chosen` has what each choice names,
 * null where the user holds no such user coupon. `standing` has what earlier calls used for the same order: these are of one
 * order with the choices. `lockToken` names the call that asks, "" if nothing does.
 */
export function judgeOrder(
  order: Order,
  chosen: readonly (ChosenCoupon | null)[],
  now: Date,
  lockToken = "",
  standing: StandingUses = noStandingUses,
): Judgement {
  const { amount, choices } = order;
  const isAlone = choices.length === 1 && standing.count === 0;
  // What an earlier release took off without looking at other calls may be more than the amount.
  const discountedBefore = Math.min(standing.discounted, amount?.minorUnits ?? standing.discounted);
  const alone = chosen.map((one, index): readonly UseRefusal[] => {
    if (!one) return [choices[index]?.code === undefined ? "USER_COUPON_NOT_FOUND" : "CODE_NOT_FOUND"];
    const reasons = [...statusAgainst(one, now), ...lockAgainst(one, choices[index] as Choice, now, lockToken)];
    if (!standing.stackable || (!isAlone && !one.coupon.stackable)) reasons.push("NOT_STACKABLE");
    if (amount && isOtherAmount(standing, amount)) reasons.push("ORDER_MISMATCH");
    if (amount) reasons.push(...amountAgainst(discountOf(one), amount));
    return reasons;
  });
  const objections = underCaps(chosen, alone);
  const discounted = amount && discountsOf(amount.minorUnits - discountedBefore, chosen, objections);
  return { objections, discounted, discountedBefore };
}

function isOtherAmount(standing: StandingUses, amount: Money): boolean {
  if (standing.count === 0) return false;
  const { amount: told } = standing;
  return told?.minorUnits !== amount.minorUnits || told.currencyCode !== amount.currencyCode;
}

/** Of several user coupons of one coupon, its usage cap may have places for some only: for those named first. */
function underCaps(
  chosen: readonly (ChosenCoupon | null)[],
  objections: readonly (readonly UseRefusal[])[],
): readonly (readonly UseRefusal[])[] {
  const wanted = new Map<string, number>();
  return chosen.map((one, index) => {
    const reasons = objections[index] ?? [];
    if (!one || reasons.length > 0 || one.coupon.usageCap === null || keptPlaces(one.userCoupon) > 0) return reasons;
    const { id, usageCap, placeCount } = one.coupon;
    const count = (wanted.get(id) ?? 0) + 1;
    wanted.set(id, count);
    return placeCount + count > usageCap ? ["USAGE_CAP_REACHED"] : reasons;
  });
}

function discountsOf(
  left: number,
  chosen: readonly (ChosenCoupon | null)[],
  objections: readonly (readonly UseRefusal[])[],
): DiscountedOrder {
  const usable: { index: number; userCouponId: string; discount: Discount }[] = [];
  chosen.forEach((one, index) => {
    if (one && objections[index]?.length === 0) {
      usable.push({ index, userCouponId: one.userCoupon.id, discount: discountOf(one) });
    }
  });
  const discounted = applyDiscounts(left, usable);
  const amounts = chosen.map(() => 0);
  usable.forEach(({ index }, position) => {
    amounts[index] = discounted.amounts[position] ?? 0;
  });
  return { ...discounted, amounts };
}

/** Its code's own discount, or the coupon's. */
function discountOf({ userCoupon, coupon }: ChosenCoupon): Discount {
  return userCoupon.discount ?? coupon.discount;
}

/** What speaks against the user coupon as it stands, its lock aside. */
function statusAgainst({ userCoupon, coupon }: ChosenCoupon, now: Date): UseRefusal[] {
  const { claimUntil, useCount, placeCount } = userCoupon;
  const expiry = expiryOf(userCoupon, coupon);
  const reasons: UseRefusal[] = [];
  if (userCoupon.releasedAt || (claimUntil && claimUntil <= now && claimUntil < expiry)) {
    reasons.push("USER_COUPON_RELEASED");
  }
  if (useCount >= userCoupon.maxUses) reasons.push("ALREADY_USED");
  if (coupon.revokedAt && coupon.revokedAt <= now) reasons.push("USER_COUPON_REVOKED");
  // Once the cap is reached, only places that a cancelled use has kept can be used again.
  if (coupon.exhaustedAt && placeCount <= useCount) reasons.push("USAGE_CAP_REACHED");
  if (expiry <= now) reasons.push("USER_COUPON_EXPIRED");
  return reasons;
}

function lockAgainst(one: ChosenCoupon, choice: Choice, now: Date, lockToken: string): UseRefusal[] {
  const { lockedUntil } = one.userCoupon;
  const locked = lockedUntil !== null && lockedUntil > now;
  if (locked && (choice.lockVersion === one.lockVersion || (lockToken !== "" && lockToken === one.lockToken)))
    return [];
  if (choice.lockVersion !== 0) return ["LOCK_LOST"];
  return locked ? ["LOCKED"] : [];
}

function amountAgainst(discount: Discount, amount: Money): UseRefusal[] {
  const currency = currencyOf(discount);
  if (currency !== null && currency !== amount.currencyCode) return ["CURRENCY_MISMATCH"];
  const { minimumOrderAmount } = discount;
  if (minimumOrderAmount && amount.minorUnits < minimumOrderAmount.minorUnits) return ["MINIMUM_ORDER_NOT_REACHED"];
  return [];
}

/** How many more uses this user coupon can make without a new place under its coupon's cap. */
export function keptPlaces({ placeCount, useCount }: Pick<UserCoupon, "placeCount" | "useCount">): number {
  return placeCount - useCount;
}

/** The refusal of an order with objections: the first reason, and all of them; null when there is none. */
export function refusalOfOrder(
  objections: readonly (readonly UseRefusal[])[],
  chosen: readonly (ChosenCoupon | null)[],
  now: Date,
): Refusal | null {
  const preconditions = objections.flatMap((reasons, index) =>
    reasons.map((reason) => ({ reason, field: `coupons[${index}]` })),
  );
  const first = preconditions[0];
  if (!first) return null;
  // A retry helps when locks are all that is in the way: after the last one has run out. The caller's own are not.
  const onlyLocks = preconditions.every(({ reason }) => reason === "LOCKED");
  const inTheWay = chosen.filter((_, index) => objections[index]?.includes("LOCKED"));
  const ends = inTheWay.map((one) => one?.userCoupon.lockedUntil?.getTime() ?? 0);
  const retryAfterMs = Math.max(1, Math.max(...ends) - now.getTime());
  return new Refusal(first.reason, [], undefined, { preconditions, ...(onlyLocks && { retryAfterMs }) });
}

/** Whether these are the uses that the order asks for, one for each choice. */
export function isOrderOf(usages: readonly Usage[], order: Order): boolean {
  const same = (usage: Usage, { userCouponId }: Choice) =>
    usage.userCouponId === userCouponId &&
    usage.userId === order.userId &&
    usage.productId === order.productId &&
    usage.orderId === order.orderId &&
    usage.orderAmount.minorUnits === order.amount?.minorUnits &&
    usage.orderAmount.currencyCode === order.amount.currencyCode &&
    (!usage.isComplete || sameLabels(usage.labels, order.labels ?? null));
  return usages.length === order.choices.length && usages.every((usage, i) => same(usage, order.choices[i] as Choice));
}
