import {
  type Duration,
  durationFromMs,
  durationMs,
  type Timestamp,
  timestampFromMs,
  timestampMs,
} from "@bufbuild/protobuf/wkt";
import {
  type Coupon as CouponMessage,
  CouponState,
  CouponType as CouponTypes,
  type Money as MoneyMessage,
} from "../../gen/coupon/v1/coupon_pb.js";
import type { Usage as UsageMessage } from "../../gen/coupon/v1/usage_pb.js";
import { type UserCoupon as UserCouponMessage, UserCouponStatus } from "../../gen/coupon/v1/user_coupon_pb.js";
import { Refusal } from "../../src/domain/refusal.js";
import type { Answer, Choice, Order } from "./call.js";
import type { Definition, Discount, Money } from "./state.js";

/** What the model says, as messages, and messages as the model says them. Nothing is decided here. */

export const paths: Record<Exclude<keyof Definition, "book">, string> = {
  name: "name",
  description: "description",
  category: "category",
  labels: "labels",
  discount: "discount",
  startsAt: "start_time",
  expiresAt: "expire_time",
  quantity: "quantity",
  validityMs: "validity_after_issue",
  maxPerUser: "max_per_user",
  usageCap: "usage_cap",
  stackable: "stackable",
  maxUses: "max_uses",
  lockMs: "lock_duration",
  claimMs: "claim_window",
  type: "type",
  throttle: "throttle",
  quota: "quota",
};

export function fieldsOf(one: Partial<Definition>) {
  const { discount, startsAt, expiresAt, quantity, validityMs, usageCap, lockMs, claimMs } = one;
  return {
    name: one.name ?? "model",
    description: one.description ?? "",
    category: one.category ?? "",
    labels: labelFields(one.labels),
    stackable: one.stackable ?? false,
    ...(discount && { discount: discountFields(discount) }),
    ...(startsAt != null && { startTime: timestampFromMs(startsAt) }),
    ...(expiresAt !== undefined && { expireTime: timestampFromMs(expiresAt) }),
    ...(quantity != null && { quantity: BigInt(quantity) }),
    ...(validityMs != null && { validityAfterIssue: durationFromMs(validityMs) }),
    ...(one.maxPerUser != null && { maxPerUser: one.maxPerUser }),
    ...(usageCap != null && { usageCap: BigInt(usageCap) }),
    ...(one.maxUses != null && { maxUses: one.maxUses }),
    ...(lockMs != null && { lockDuration: durationFromMs(lockMs) }),
    ...(claimMs != null && { claimWindow: durationFromMs(claimMs) }),
    ...(one.type != null && { type: CouponTypes[one.type] }),
    ...(one.throttle && { throttle: throttleFields(one.throttle) }),
    ...(one.quota != null && { quota: one.quota }),
    ...(one.book != null && { codeBook: { exactMatch: one.book === "exact" } }),
  };
}

function throttleFields({ maxWaitMs, ...throttle }: NonNullable<Definition["throttle"]>) {
  return { ...throttle, maxWait: durationFromMs(maxWaitMs) };
}

/** With the last entry first, which makes no difference. */
export function labelFields(labels = ""): Record<string, string> {
  if (labels === "") return {};
  const entries = labels.split(",").map((entry) => entry.split("=") as [string, string]);
  return Object.fromEntries(entries.reverse());
}

export function labelsView(labels: Readonly<Record<string, string>>): string {
  const entries = Object.entries(labels).map(([key, value]) => `${key}=${value}`);
  return entries.sort().join(",");
}

export function discountFields({ kind, value, currency, maximum, minimum }: Discount) {
  const money = (units: number) => moneyFields({ currency: currency ?? "", units });
  return {
    kind:
      kind === "fixed"
        ? { case: "fixedAmount" as const, value: money(value) }
        : { case: "percentageBasisPoints" as const, value },
    ...(maximum !== null && { maximumAmount: money(maximum) }),
    ...(minimum !== null && { minimumOrderAmount: money(minimum) }),
  };
}

function moneyFields({ currency, units }: Money) {
  return { $typeName: "coupon.v1.Money" as const, currencyCode: currency, minorUnits: BigInt(units) };
}

function choiceFields({ id, code, lockVersion }: Choice) {
  const target =
    code === undefined ? { case: "userCouponId" as const, value: id } : { case: "code" as const, value: code };
  return { target, lockVersion: BigInt(lockVersion) };
}

export function orderFields({ userId, choices, productId, orderId, amount }: Order) {
  const orderAmount = amount && { orderAmount: moneyFields(amount) };
  return { userId, orderId, productId, ...choicesFields(choices), ...orderAmount };
}

let sent = 0;

/** A code alone is named in either of its two ways by turns, for both are the same request. */
export function choicesFields(choices: readonly Choice[]) {
  const [first, ...others] = choices;
  const code = others.length === 0 ? first?.code : undefined;
  if (code === undefined || ++sent % 2 === 0) return { coupons: choices.map(choiceFields) };
  return { code, lockVersion: BigInt(first?.lockVersion ?? 0) };
}

export function withCoupon(answer: { coupon?: CouponMessage | undefined } | Refusal): Answer | Refusal {
  return answer instanceof Refusal ? answer : couponView(answer.coupon as CouponMessage);
}

export function couponView(message: CouponMessage): Answer {
  const count = (value: bigint | undefined) => (value === undefined ? null : Number(value));
  return {
    id: message.id,
    name: message.name,
    description: message.description,
    category: message.category,
    labels: labelsView(message.labels),
    discount: discountView(message.discount),
    startsAt: msOf(message.startTime),
    expiresAt: msOf(message.expireTime),
    quantity: count(message.quantity),
    validityMs: durationOf(message.validityAfterIssue),
    maxPerUser: message.maxPerUser,
    usageCap: count(message.usageCap),
    stackable: message.stackable,
    maxUses: message.maxUses,
    lockMs: durationOf(message.lockDuration),
    claimMs: durationOf(message.claimWindow),
    type: message.type === 0 ? null : CouponTypes[message.type],
    throttle: throttleView(message.throttle),
    quota: message.quota ? { group: message.quota.group, maxPerDay: message.quota.maxPerDay } : null,
    book: message.codeBook ? (message.codeBook.exactMatch ? "exact" : "folded") : null,
    isTypePool: message.typePool,
    revision: Number(message.revision),
    createdAt: msOf(message.createTime),
    updatedAt: msOf(message.updateTime),
    deletedAt: msOf(message.deleteTime),
    exhaustedAt: msOf(message.exhaustTime),
    state: CouponState[message.state],
    issuedCount: Number(message.issuedCount),
    remaining: count(message.remainingCount),
    usedCount: Number(message.usedCount),
    remainingUses: count(message.remainingUseCount),
  };
}

function throttleView(message: CouponMessage["throttle"]): Definition["throttle"] {
  if (!message) return null;
  const { maxConcurrent, maxPerSecond, maxWait } = message;
  return { maxConcurrent, maxPerSecond, maxWaitMs: durationOf(maxWait) ?? 0 };
}

export function discountView(message: CouponMessage["discount"]): Discount | undefined {
  if (message?.kind.case === undefined) return undefined;
  const { kind, maximumAmount, minimumOrderAmount } = message;
  const fixed = kind.case === "fixedAmount" ? kind.value : undefined;
  const units = (money: MoneyMessage | undefined) => (money ? Number(money.minorUnits) : null);
  return {
    kind: fixed ? "fixed" : "percentage",
    value: fixed ? Number(fixed.minorUnits) : (kind.value as number),
    currency: (fixed ?? maximumAmount ?? minimumOrderAmount)?.currencyCode ?? null,
    maximum: units(maximumAmount),
    minimum: units(minimumOrderAmount),
  };
}

export function userCouponView(message: UserCouponMessage): Answer {
  return {
    id: message.id,
    couponId: message.couponId,
    userId: message.userId,
    issuedAt: msOf(message.issueTime),
    code: message.code === "" ? null : message.code,
    labels: labelsView(message.labels),
    discount: discountView(message.discount) ?? null,
    status: UserCouponStatus[message.status],
    expiresAt: msOf(message.expireTime),
    maxUses: message.maxUses,
    useCount: message.useCount,
    lockedUntil: msOf(message.lockExpireTime),
    claimUntil: msOf(message.claimExpireTime),
  };
}

export function fullUserCouponView(message: UserCouponMessage): Answer {
  return {
    ...userCouponView(message),
    coupon: couponView(message.coupon as CouponMessage),
    usages: message.usages.map(usageView),
  };
}

export function usageView(message: UsageMessage): Answer {
  const { orderAmount } = message;
  return {
    id: message.id,
    userCouponId: message.userCouponId,
    couponId: message.couponId,
    userId: message.userId,
    productId: message.productId,
    orderId: message.orderId,
    amount: { currency: orderAmount?.currencyCode, units: Number(orderAmount?.minorUnits) },
    discount: Number(message.discountAmount?.minorUnits),
    labels: labelsView(message.labels),
    code: message.code === "" ? null : message.code,
    couponName: message.couponName,
    couponType: message.couponType === 0 ? null : CouponTypes[message.couponType],
    usedAt: msOf(message.useTime),
    cancelledAt: msOf(message.cancelTime),
  };
}

export function msOf(message: Timestamp | undefined): number | null {
  return message ? timestampMs(message) : null;
}

function durationOf(message: Duration | undefined): number | null {
  return message ? durationMs(message) : null;
}
