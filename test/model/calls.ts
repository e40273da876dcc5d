import { create } from "@bufbuild/protobuf";
import {
  type Duration,
  durationFromMs,
  durationMs,
  type Timestamp,
  timestampFromMs,
  timestampMs,
} from "@bufbuild/protobuf/wkt";
import {
  CreateCouponRequestSchema,
  DeleteCouponRequestSchema,
  GetCouponRequestSchema,
  PauseCouponRequestSchema,
  ResumeCouponRequestSchema,
  UpdateCouponRequestSchema,
} from "../../gen/coupon/v1/catalog_service_pb.js";
import {
  type Coupon as CouponMessage,
  CouponState,
  type Money as MoneyMessage,
} from "../../gen/coupon/v1/coupon_pb.js";
import { ErrorReason } from "../../gen/coupon/v1/error_reason_pb.js";
import { IssueCouponRequestSchema } from "../../gen/coupon/v1/issuance_service_pb.js";
import type { Usage as UsageMessage } from "../../gen/coupon/v1/usage_pb.js";
import {
  CancelUsageRequestSchema,
  ListUsagesRequestSchema,
  LockCouponsRequestSchema,
  QuoteUsageRequestSchema,
  UnlockCouponsRequestSchema,
  UseCouponsRequestSchema,
} from "../../gen/coupon/v1/usage_service_pb.js";
import { type UserCoupon as UserCouponMessage, UserCouponStatus } from "../../gen/coupon/v1/user_coupon_pb.js";
import {
  DeleteUserCouponRequestSchema,
  GetUserCouponRequestSchema,
  ListUserCouponsRequestSchema,
} from "../../gen/coupon/v1/user_coupon_service_pb.js";
import { Refusal, StoreUnavailable } from "../../src/domain/refusal.js";
import type { Replica } from "./service.js";
import type { Answer, Call, Choice, Definition, Discount, Money, Order } from "./state.js";

/** Between the calls of the model and the messages of the contract. Nothing is decided here. */

const deadlineMs = 20_000;
const pageSize = 1_000;

export async function perform(replica: Replica, call: Call): Promise<Answer> {
  try {
    const answer = await send(replica, call);
    return answer instanceof Refusal ? refusalView(answer, call) : answer;
  } catch (error) {
    if (error instanceof StoreUnavailable) return { refused: "STORE_UNAVAILABLE" };
    throw error;
  }
}

/** The ids of what a call has made, as its answer tells them. */
export function madeBy(answer: Answer): string[] {
  if (answer.usages) return (answer.usages as { id: string }[]).map(({ id }) => id);
  return typeof answer.id === "string" ? [answer.id] : [];
}

async function send(replica: Replica, call: Call): Promise<Answer | Refusal> {
  const context = { requestId: "model", deadlineMs: Date.now() + deadlineMs };
  switch (call.method) {
    case "create": {
      const { definition, requestId } = call;
      const message = create(CreateCouponRequestSchema, { coupon: fieldsOf(definition), requestId });
      return withCoupon(await replica.create(message, context));
    }
    case "update": {
      const { couponId, revision, change, requestId } = call;
      const message = create(UpdateCouponRequestSchema, {
        coupon: { id: couponId, revision: BigInt(revision), ...fieldsOf(change) },
        updateMask: { paths: Object.keys(change).map((field) => paths[field as keyof Definition]) },
        requestId,
      });
      return withCoupon(await replica.update(message, context));
    }
    case "pause":
      return withCoupon(await replica.pause(create(PauseCouponRequestSchema, inputOf(call)), context));
    case "resume":
      return withCoupon(await replica.resume(create(ResumeCouponRequestSchema, inputOf(call)), context));
    case "delete": {
      const message = create(DeleteCouponRequestSchema, { ...inputOf(call), revokeIssued: call.revoke });
      return withCoupon(await replica.delete(message, context));
    }
    case "getCoupon":
      return withCoupon(await replica.getCoupon(create(GetCouponRequestSchema, inputOf(call)), context));
    case "issue": {
      const target = { case: "couponId" as const, value: call.couponId };
      const { userId, requestId } = call;
      const answer = await replica.issue(create(IssueCouponRequestSchema, { target, userId, requestId }), context);
      if (answer instanceof Refusal) return answer;
      return { replayed: answer.replayed, ...userCouponView(answer.userCoupon as UserCouponMessage) };
    }
    case "quote": {
      const answer = await replica.quote(create(QuoteUsageRequestSchema, orderFields(call.order)), context);
      if (answer instanceof Refusal) return answer;
      return {
        coupons: answer.quotes.map(({ couponId }) => couponId),
        objections: answer.quotes.map(({ objections }) => objections.map(({ reason }) => ErrorReason[reason])),
        discounts: answer.quotes.map(({ discountAmount }) => Number(discountAmount?.minorUnits)),
        total: Number(answer.discountAmount?.minorUnits),
        final: Number(answer.finalAmount?.minorUnits),
        usable: answer.usable,
      };
    }
    case "lock": {
      const message = create(LockCouponsRequestSchema, { ...orderFields(call.order), requestId: call.requestId });
      const answer = await replica.lock(message, context);
      if (answer instanceof Refusal) return answer;
      const locks = answer.locks.map(({ userCouponId, lockVersion, expireTime }) => ({
        id: userCouponId,
        version: Number(lockVersion),
        until: msOf(expireTime),
      }));
      return { locks };
    }
    case "unlock": {
      const message = { userId: call.userId, coupons: call.choices.map(choiceFields) };
      const answer = await replica.unlock(create(UnlockCouponsRequestSchema, message), context);
      return answer instanceof Refusal ? answer : { unlocked: [...answer.userCouponIds].sort() };
    }
    case "use": {
      const message = create(UseCouponsRequestSchema, { ...orderFields(call.order), requestId: call.requestId });
      const answer = await replica.use(message, context);
      if (answer instanceof Refusal) return answer;
      return {
        usages: answer.usages.map(usageView),
        total: Number(answer.discountAmount?.minorUnits),
        final: Number(answer.finalAmount?.minorUnits),
        replayed: answer.replayed,
      };
    }
    case "cancel": {
      const answer = await replica.cancel(create(CancelUsageRequestSchema, inputOf(call)), context);
      return answer instanceof Refusal ? answer : usageView(answer.usage as UsageMessage);
    }
    case "deleteUserCoupon": {
      const answer = await replica.deleteUserCoupon(create(DeleteUserCouponRequestSchema, inputOf(call)), context);
      return answer instanceof Refusal ? answer : { restocked: answer.restocked };
    }
    case "getUserCoupon": {
      const answer = await replica.getUserCoupon(create(GetUserCouponRequestSchema, inputOf(call)), context);
      return answer instanceof Refusal ? answer : fullUserCouponView(answer.userCoupon as UserCouponMessage);
    }
    case "listUserCoupons": {
      const message = create(ListUserCouponsRequestSchema, { ...inputOf(call), showUsages: true, pageSize });
      const answer = await replica.listUserCoupons(message, context);
      return answer instanceof Refusal ? answer : { userCoupons: answer.userCoupons.map(fullUserCouponView) };
    }
    case "listUsages": {
      const message = create(ListUsagesRequestSchema, { ...inputOf(call), pageSize });
      const answer = await replica.listUsages(message, context);
      return answer instanceof Refusal ? answer : { usages: answer.usages.map(usageView) };
    }
    case "release":
      await replica.releaser.release();
      return {};
  }
}

function inputOf<C extends Call>({ method: _, ...input }: C): Omit<C, "method"> {
  return input;
}

const paths: Record<keyof Definition, string> = {
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
};

function fieldsOf(one: Partial<Definition>) {
  const { discount, startsAt, expiresAt, quantity, validityMs, usageCap, lockMs, claimMs } = one;
  return {
    name: "model",
    stackable: one.stackable ?? false,
    ...(discount && { discount: discountFields(discount) }),
    ...(startsAt !== undefined && { startTime: timestampFromMs(startsAt) }),
    ...(expiresAt !== undefined && { expireTime: timestampFromMs(expiresAt) }),
    ...(quantity != null && { quantity: BigInt(quantity) }),
    ...(validityMs != null && { validityAfterIssue: durationFromMs(validityMs) }),
    ...(one.maxPerUser !== undefined && { maxPerUser: one.maxPerUser }),
    ...(usageCap != null && { usageCap: BigInt(usageCap) }),
    ...(one.maxUses !== undefined && { maxUses: one.maxUses }),
    ...(lockMs !== undefined && { lockDuration: durationFromMs(lockMs) }),
    ...(claimMs != null && { claimWindow: durationFromMs(claimMs) }),
  };
}

function discountFields({ kind, value, currency, maximum, minimum }: Discount) {
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

function choiceFields({ id, lockVersion }: Choice) {
  return { target: { case: "userCouponId" as const, value: id }, lockVersion: BigInt(lockVersion) };
}

function orderFields({ userId, choices, orderId, amount }: Order) {
  const orderAmount = amount && { orderAmount: moneyFields(amount) };
  return { userId, orderId, productId: "product", coupons: choices.map(choiceFields), ...orderAmount };
}

function refusalView({ reason, detail }: Refusal, call: Call): Answer {
  const { preconditions, retryAfterMs } = detail;
  const retry = retryAfterMs !== undefined && { retryMs: retryAfterMs };
  if (!preconditions || !("order" in call)) return { refused: reason, ...retry };
  const against = call.order.choices.map((_, index) =>
    preconditions.filter(({ field }) => field === `coupons[${index}]`).map((one) => one.reason),
  );
  return { refused: reason, against, ...retry };
}

function withCoupon(answer: { coupon?: CouponMessage | undefined } | Refusal): Answer | Refusal {
  return answer instanceof Refusal ? answer : couponView(answer.coupon as CouponMessage);
}

function couponView(message: CouponMessage): Answer {
  const count = (value: bigint | undefined) => (value === undefined ? null : Number(value));
  return {
    id: message.id,
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
    revision: Number(message.revision),
    deletedAt: msOf(message.deleteTime),
    exhaustedAt: msOf(message.exhaustTime),
    state: CouponState[message.state],
    issuedCount: Number(message.issuedCount),
    remaining: count(message.remainingCount),
    usedCount: Number(message.usedCount),
    remainingUses: count(message.remainingUseCount),
  };
}

function discountView(message: CouponMessage["discount"]): Discount | undefined {
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

function userCouponView(message: UserCouponMessage): Answer {
  return {
    id: message.id,
    status: UserCouponStatus[message.status],
    expiresAt: msOf(message.expireTime),
    maxUses: message.maxUses,
    useCount: message.useCount,
    lockedUntil: msOf(message.lockExpireTime),
    claimUntil: msOf(message.claimExpireTime),
  };
}

function fullUserCouponView(message: UserCouponMessage): Answer {
  return {
    ...userCouponView(message),
    coupon: couponView(message.coupon as CouponMessage),
    usages: message.usages.map(usageView),
  };
}

function usageView(message: UsageMessage): Answer {
  const { orderAmount } = message;
  return {
    id: message.id,
    userCouponId: message.userCouponId,
    userId: message.userId,
    orderId: message.orderId,
    amount: { currency: orderAmount?.currencyCode, units: Number(orderAmount?.minorUnits) },
    discount: Number(message.discountAmount?.minorUnits),
    usedAt: msOf(message.useTime),
    cancelledAt: msOf(message.cancelTime),
  };
}

function msOf(message: Timestamp | undefined): number | null {
  return message ? timestampMs(message) : null;
}

function durationOf(message: Duration | undefined): number | null {
  return message ? durationMs(message) : null;
}
