import { createHash } from "node:crypto";
import { create, type DescMessage, type MessageInitShape, type MessageShape, toBinary } from "@bufbuild/protobuf";
import {
  type Duration,
  durationFromMs,
  durationMs,
  type Timestamp,
  timestampDate,
  timestampFromDate,
} from "@bufbuild/protobuf/wkt";
import {
  type Coupon as CouponMessage,
  CouponSchema,
  CouponState,
  type Discount as DiscountMessage,
  DiscountSchema,
  type Money as MoneyMessage,
  MoneySchema,
} from "../../gen/coupon/v1/coupon_pb.js";
import {
  type UserCoupon as UserCouponMessage,
  UserCouponSchema,
  UserCouponStatus,
} from "../../gen/coupon/v1/user_coupon_pb.js";
import { type Coupon, couponState, type Discount, type Money, remainingCount } from "../domain/coupon.js";
import type { FieldViolation } from "../domain/refusal.js";
import { expiryOf, type UserCoupon, userCouponStatus } from "../domain/user-coupon.js";
import type { RequestKey } from "../storage/ports.js";

/** Between the messages of the contract and the values of the domain. Nothing is decided here. */

export function couponMessage(coupon: Coupon, now: Date): CouponMessage {
  const remaining = remainingCount(coupon);
  return create(CouponSchema, {
    id: coupon.id,
    name: coupon.name,
    description: coupon.description,
    category: coupon.category,
    discount: discountMessage(coupon.discount),
    startTime: timestampFromDate(coupon.startsAt),
    expireTime: timestampFromDate(coupon.expiresAt),
    ...(coupon.quantity !== null && { quantity: BigInt(coupon.quantity) }),
    ...(coupon.validityAfterIssueMs !== null && { validityAfterIssue: durationFromMs(coupon.validityAfterIssueMs) }),
    maxPerUser: coupon.maxPerUser,
    ...(coupon.usageCap !== null && { usageCap: BigInt(coupon.usageCap) }),
    stackable: coupon.stackable,
    issuedCount: BigInt(coupon.issuedCount),
    ...(remaining !== null && { remainingCount: BigInt(remaining) }),
    state: CouponState[couponState(coupon, now)],
    revision: BigInt(coupon.revision),
    createTime: timestampFromDate(coupon.createdAt),
    updateTime: timestampFromDate(coupon.updatedAt),
    ...(coupon.deletedAt && { deleteTime: timestampFromDate(coupon.deletedAt) }),
  });
}

function discountMessage({ kind, maximumAmount, minimumOrderAmount }: Discount): DiscountMessage {
  return create(DiscountSchema, {
    kind:
      kind.case === "fixedAmount"
        ? { case: "fixedAmount", value: moneyMessage(kind.amount) }
        : { case: "percentageBasisPoints", value: kind.basisPoints },
    ...(maximumAmount && { maximumAmount: moneyMessage(maximumAmount) }),
    ...(minimumOrderAmount && { minimumOrderAmount: moneyMessage(minimumOrderAmount) }),
  });
}

function moneyMessage({ currencyCode, minorUnits }: Money): MoneyMessage {
  return create(MoneySchema, { currencyCode, minorUnits: BigInt(minorUnits) });
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

function moneyOf({ currencyCode, minorUnits }: MoneyMessage): Money {
  return { currencyCode, minorUnits: Number(minorUnits) };
}

const earliestMs = 0;
const latestMs = Date.parse("9999-12-31T23:59:59.999Z");

/** To the millisecond. A time that the store cannot hold is a violation. */
export function dateOf(message: Timestamp | undefined, field: string, violations: FieldViolation[]): Date | null {
  if (!message) return null;
  const date = timestampDate(message);
  const ms = date.getTime();
  if (!(ms >= earliestMs && ms <= latestMs) || message.nanos < 0 || message.nanos > 999_999_999) {
    violations.push({ field, description: "must be from 1970-01-01T00:00:00Z to 9999-12-31T23:59:59.999Z" });
    return null;
  }
  return date;
}

export function millisOf(message: Duration | undefined, field: string, violations: FieldViolation[]): number | null {
  if (!message) return null;
  if (message.nanos % 1_000_000 !== 0) violations.push({ field, description: "must be in whole milliseconds" });
  return Math.trunc(durationMs(message));
}

export function userCouponMessage(userCoupon: UserCoupon, coupon: Coupon, now: Date): UserCouponMessage {
  return create(UserCouponSchema, {
    ...issuedFields(userCoupon, expiryOf(userCoupon, coupon)),
    status: UserCouponStatus[userCouponStatus(userCoupon, coupon, now)],
    coupon: couponMessage(coupon, now),
  });
}

/** What every answer about a user coupon has: all but its status and its coupon. */
export function issuedFields(userCoupon: UserCoupon, expiresAt: Date): MessageInitShape<typeof UserCouponSchema> {
  return {
    id: userCoupon.id,
    couponId: userCoupon.couponId,
    userId: userCoupon.userId,
    issueTime: timestampFromDate(userCoupon.issuedAt),
    expireTime: timestampFromDate(expiresAt),
  };
}

/** What names a repeated call: null when the caller gave no request id. */
export function requestKey<D extends DescMessage>(
  method: string,
  schema: D,
  request: MessageShape<D> & { requestId: string },
): RequestKey | null {
  if (request.requestId === "") return null;
  const inputHash = createHash("sha256")
    .update(toBinary(schema, { ...request, requestId: "" }))
    .digest();
  return { method, requestId: request.requestId, inputHash };
}
