import { createHash } from "node:crypto";
import { type DescMessage, type MessageShape, toBinary } from "@bufbuild/protobuf";
import { type Duration, durationFromMs, durationMs, type Timestamp } from "@bufbuild/protobuf/wkt";
import {
  type Coupon as CouponMessage,
  CouponState,
  CouponType as CouponTypeMessage,
  type Discount as DiscountMessage,
  type Money as MoneyMessage,
  type Throttle as ThrottleMessage,
} from "../../gen/coupon/v1/coupon_pb.js";
import type { Usage as UsageMessage } from "../../gen/coupon/v1/usage_pb.js";
import { type UserCoupon as UserCouponMessage, UserCouponStatus } from "../../gen/coupon/v1/user_coupon_pb.js";
import {
  type Coupon,
  type CouponType,
  couponState,
  couponTypes,
  type Discount,
  type Money,
  remainingCount,
  remainingUseCount,
  type Throttle,
} from "../domain/coupon.js";
import { checkLabels, type Labels } from "../domain/labels.js";
import { type FieldViolation, invalid, type Refusal } from "../domain/refusal.js";
import type { Usage } from "../domain/usage.js";
import { expiryOf, type UserCouponStatus as Status, type UserCoupon, userCouponStatus } from "../domain/user-coupon.js";
import type { RequestKey } from "../storage/ports/page.js";
import type { UserCouponWithCoupon } from "../storage/ports/user-coupons.js";
import { sortMaps } from "./sort-maps.js";

/** Between the messages of the contract and the values of the domain. Nothing is decided here. */

/**
 * Messages that go out are put together by hand, as `create` would make them: `create` with its fields handed over
 * takes ten times as long, and one user's list has hundreds of messages.
 */
export function couponMessage(coupon: Coupon, now: Date): CouponMessage {
  const known = couponMessages.get(coupon);
  // The lists that share a query share its time.
  if (known?.now === now) return known.message;
  const state = CouponState[couponState(coupon, now)];
  const message = known?.message.state === state ? known.message : Object.freeze(buildCouponMessage(coupon, state));
  couponMessages.set(coupon, { message, now });
  return message;
}

/** A coupon is a value; of what is in its message, only the state depends on the time as well. */
const couponMessages = new WeakMap<Coupon, { readonly message: CouponMessage; readonly now: Date }>();

function buildCouponMessage(coupon: Coupon, state: CouponState): CouponMessage {
  const remaining = remainingCount(coupon);
  const remainingUses = remainingUseCount(coupon);
  const message: CouponMessage = {
    $typeName: "coupon.v1.Coupon",
    id: coupon.id,
    name: coupon.name,
    description: coupon.description,
    category: coupon.category,
    startTime: timestampMessage(coupon.startsAt),
    expireTime: timestampMessage(coupon.expiresAt),
    maxPerUser: coupon.maxPerUser,
    stackable: coupon.stackable,
    issuedCount: BigInt(coupon.issuedCount),
    state,
    revision: BigInt(coupon.revision),
    createTime: timestampMessage(coupon.createdAt),
    updateTime: timestampMessage(coupon.updatedAt),
    maxUses: coupon.maxUses,
    lockDuration: durationFromMs(coupon.lockDurationMs),
    usedCount: BigInt(coupon.usedCount),
    type: CouponTypeMessage[coupon.type ?? "UNSPECIFIED"],
    typePool: coupon.isTypePool,
    labels: labelsMessage(coupon.labels),
  };
  // A type pool's is there for the table's sake alone: each of its codes has its own.
  if (!coupon.isTypePool) message.discount = discountMessage(coupon.discount);
  if (coupon.quantity !== null) message.quantity = BigInt(coupon.quantity);
  if (coupon.validityAfterIssueMs !== null) message.validityAfterIssue = durationFromMs(coupon.validityAfterIssueMs);
  if (coupon.usageCap !== null) message.usageCap = BigInt(coupon.usageCap);
  if (remaining !== null) message.remainingCount = BigInt(remaining);
  if (coupon.deletedAt) message.deleteTime = timestampMessage(coupon.deletedAt);
  if (coupon.claimWindowMs !== null) message.claimWindow = durationFromMs(coupon.claimWindowMs);
  if (remainingUses !== null) message.remainingUseCount = BigInt(remainingUses);
  if (coupon.exhaustedAt) message.exhaustTime = timestampMessage(coupon.exhaustedAt);
  if (coupon.throttle) message.throttle = throttleMessage(coupon.throttle);
  if (coupon.quota) message.quota = { $typeName: "coupon.v1.Quota", ...coupon.quota };
  if (coupon.codeBook) message.codeBook = { $typeName: "coupon.v1.CodeBook", ...coupon.codeBook };
  return message;
}

function throttleMessage({ maxConcurrent, maxPerSecond, maxWaitMs }: Throttle): ThrottleMessage {
  return { $typeName: "coupon.v1.Throttle", maxConcurrent, maxPerSecond, maxWait: durationFromMs(maxWaitMs) };
}

/** null: none. */
export function typeOf(message: CouponTypeMessage): CouponType | null {
  return couponTypes.find((type) => CouponTypeMessage[type] === message) ?? null;
}

export function discountMessage({ kind, maximumAmount, minimumOrderAmount }: Discount): DiscountMessage {
  const message: DiscountMessage = {
    $typeName: "coupon.v1.Discount",
    kind:
      kind.case === "fixedAmount"
        ? { case: "fixedAmount", value: moneyMessage(kind.amount) }
        : { case: "percentageBasisPoints", value: kind.basisPoints },
  };
  if (maximumAmount) message.maximumAmount = moneyMessage(maximumAmount);
  if (minimumOrderAmount) message.minimumOrderAmount = moneyMessage(minimumOrderAmount);
  return message;
}

export function moneyMessage({ currencyCode, minorUnits }: Money): MoneyMessage {
  return { $typeName: "coupon.v1.Money", currencyCode, minorUnits: BigInt(minorUnits) };
}

export function discountOf(message: DiscountMessage | undefined): Discount | null {
  if (!message || message.kind.case === undefined) return null;
  const { kind } = message;
  return {
    kind:
      kind.case === "fixedAmount"
        ? { case: "fixedAmount", amount: moneyOf(kind.value) }
        : { case: "percentage", basisPoints: kind.value },
    maximumAmount: message.maximumAmount ? moneyOf(message.maximumAmount) : null,
    minimumOrderAmount: message.minimumOrderAmount ? moneyOf(message.minimumOrderAmount) : null,
  };
}

export function moneyOf({ currencyCode, minorUnits }: MoneyMessage): Money {
  return { currencyCode, minorUnits: Number(minorUnits) };
}

/** What a caller gave; null: none. */
export function labelsOf(labels: Labels): Labels | null {
  return Object.keys(labels).length === 0 ? null : labels;
}

/** The same, looked through. */
export function checkedLabels(message: { readonly labels: Labels }): Labels | null | Refusal {
  const labels = labelsOf(message.labels);
  const wrong = labels && checkLabels(labels);
  return wrong ? invalid({ field: "labels", description: wrong }) : labels;
}

/** Messages that go out are not changed, so those without labels share none. */
const noLabels: Record<string, string> = Object.freeze({});

function labelsMessage(labels: Labels | null): Record<string, string> {
  return labels ?? noLabels;
}

const earliestMs = 0;
const latestMs = Date.parse("9999-12-31T23:59:59.999Z");

/** To the millisecond. A time that the store cannot hold is a violation. */
export function dateOf(message: Timestamp | undefined, field: string, violations: FieldViolation[]): Date | null {
  if (!message) return null;
  const ms = Number(message.seconds) * 1000 + Math.floor(message.nanos / 1_000_000);
  if (!(ms >= earliestMs && ms <= latestMs) || message.nanos < 0 || message.nanos > 999_999_999) {
    violations.push({ field, description: "must be from 1970-01-01T00:00:00Z to 9999-12-31T23:59:59.999Z" });
    return null;
  }
  return new Date(ms);
}

export function millisOf(message: Duration | undefined, field: string, violations: FieldViolation[]): number | null {
  if (!message) return null;
  const { nanos, seconds } = message;
  if (Math.abs(nanos) > 999_999_999 || (nanos < 0 && seconds > 0n) || (nanos > 0 && seconds < 0n)) {
    violations.push({ field, description: "has nanos out of range, or of another sign than its seconds" });
  } else if (nanos % 1_000_000 !== 0) {
    violations.push({ field, description: "must be in whole milliseconds" });
  }
  return Math.trunc(durationMs(message));
}

export function userCouponMessage(userCoupon: UserCoupon, coupon: Coupon, now: Date): UserCouponMessage {
  const message = issuedMessage(userCoupon, expiryOf(userCoupon, coupon), userCouponStatus(userCoupon, coupon, now));
  message.coupon = couponMessage(coupon, now);
  return message;
}

/** Whether `userCouponMessage` would make these very messages again. */
export function isCurrent(
  messages: readonly UserCouponMessage[],
  rows: readonly UserCouponWithCoupon[],
  now: Date,
): boolean {
  return rows.every(({ userCoupon, coupon }, index) => {
    const message = messages[index]!;
    const status = UserCouponStatus[userCouponStatus(userCoupon, coupon, now)];
    return message.status === status && message.coupon === couponMessage(coupon, now);
  });
}

/** A user coupon without its coupon. */
export function issuedMessage(userCoupon: UserCoupon, expiresAt: Date, status: Status): UserCouponMessage {
  const message: UserCouponMessage = {
    $typeName: "coupon.v1.UserCoupon",
    id: userCoupon.id,
    couponId: userCoupon.couponId,
    userId: userCoupon.userId,
    status: UserCouponStatus[status],
    issueTime: timestampMessage(userCoupon.issuedAt),
    expireTime: timestampMessage(expiresAt),
    maxUses: userCoupon.maxUses,
    useCount: userCoupon.useCount,
    usages: [],
    code: userCoupon.code ?? "",
    labels: labelsMessage(userCoupon.labels),
  };
  if (userCoupon.discount) message.discount = discountMessage(userCoupon.discount);
  if (status === "LOCKED" && userCoupon.lockedUntil) message.lockExpireTime = timestampMessage(userCoupon.lockedUntil);
  if (userCoupon.claimUntil) message.claimExpireTime = timestampMessage(userCoupon.claimUntil);
  return message;
}

export function usageMessage(usage: Usage): UsageMessage {
  const message: UsageMessage = {
    $typeName: "coupon.v1.Usage",
    id: usage.id,
    userCouponId: usage.userCouponId,
    couponId: usage.couponId,
    userId: usage.userId,
    productId: usage.productId,
    orderId: usage.orderId,
    orderAmount: moneyMessage(usage.orderAmount),
    discountAmount: moneyMessage(usage.discountAmount),
    useTime: timestampMessage(usage.usedAt),
    code: usage.code ?? "",
    couponType: CouponTypeMessage[usage.couponType ?? "UNSPECIFIED"],
    couponName: usage.couponName,
    labels: labelsMessage(usage.labels),
  };
  if (usage.cancelledAt) message.cancelTime = timestampMessage(usage.cancelledAt);
  return message;
}

export function timestampMessage(date: Date): Timestamp {
  const ms = date.getTime();
  const seconds = Math.floor(ms / 1000);
  return { $typeName: "google.protobuf.Timestamp", seconds: BigInt(seconds), nanos: (ms - seconds * 1000) * 1_000_000 };
}

/** What names a repeated call: null when the caller gave no request id. */
export function requestKey<D extends DescMessage>(
  method: string,
  schema: D,
  request: MessageShape<D> & { requestId: string },
): RequestKey | null {
  if (request.requestId === "") return null;
  sortMaps(schema, request);
  const inputHash = createHash("sha256")
    .update(toBinary(schema, { ...request, requestId: "" }))
    .digest();
  return { method, requestId: request.requestId, inputHash };
}
