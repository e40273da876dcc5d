import { create } from "@bufbuild/protobuf";
import {
  BatchCreateCouponsRequestSchema,
  CreateCouponRequestSchema,
  DeleteCouponRequestSchema,
  GetCodeJobRequestSchema,
  GetCouponRequestSchema,
  GetStatsRequestSchema,
  PauseCouponRequestSchema,
  ResumeCouponRequestSchema,
  UpdateCouponRequestSchema,
} from "../../gen/coupon/v1/catalog_service_pb.js";
import { ErrorReason } from "../../gen/coupon/v1/error_reason_pb.js";
import { BatchIssueCouponsRequestSchema, IssueCouponRequestSchema } from "../../gen/coupon/v1/issuance_service_pb.js";
import type { Usage as UsageMessage } from "../../gen/coupon/v1/usage_pb.js";
import {
  CancelUsageRequestSchema,
  GetUsageRequestSchema,
  LockCouponsRequestSchema,
  QuoteUsageRequestSchema,
  UnlockCouponsRequestSchema,
  UseCouponsRequestSchema,
} from "../../gen/coupon/v1/usage_service_pb.js";
import type { UserCoupon as UserCouponMessage } from "../../gen/coupon/v1/user_coupon_pb.js";
import {
  DeleteUserCouponRequestSchema,
  GetUserCouponRequestSchema,
} from "../../gen/coupon/v1/user_coupon_service_pb.js";
import type { CallContext } from "../../src/domain/call-context.js";
import { anybody } from "../../src/domain/principal.js";
import { Refusal, refusalIn } from "../../src/domain/refusal.js";
import { callContext } from "../support/call-context.js";
import type { Answer, Call } from "./call.js";
import { cancelJob, deleteCodes, generate, jobView, runGenerator, targetFields, upload } from "./code-calls.js";
import { list, onePage } from "./list-calls.js";
import {
  choicesFields,
  couponView,
  fieldsOf,
  fullUserCouponView,
  labelFields,
  msOf,
  orderFields,
  paths,
  usageView,
  userCouponView,
  withCoupon,
} from "./messages.js";
import type { Replica } from "./service.js";

/** Between the calls of the model and the messages of the contract. Nothing is decided here. */

/** How long a caller waits. */
const callerTimeMs = 20_000;
const longestDayMs = 25 * 3_600_000;

/** `caller`: who calls, as records name it; `timeMs`: how long it waits for the answer. */
export async function perform(replica: Replica, call: Call, caller = "", timeMs = callerTimeMs): Promise<Answer> {
  try {
    const answer = await send(replica, call, contextOf(call, caller, timeMs));
    return answer instanceof Refusal ? refusalView(answer, call) : answer;
  } catch (error) {
    const refusal = refusalIn(error);
    if (refusal) return { refused: refusal.reason };
    throw error;
  }
}

function contextOf(call: Call, caller: string, timeMs: number): CallContext {
  const callerRequestId = "requestId" in call ? call.requestId : "";
  const { scopes } = anybody;
  const isBlind = "isBlind" in call && call.isBlind;
  const principal = {
    id: caller,
    scopes: isBlind ? new Set([...scopes].filter((one) => one !== "codes.read")) : scopes,
  };
  return callContext(Date.now() + timeMs, { method: call.method, callerRequestId, principal });
}

async function send(replica: Replica, call: Call, context: CallContext): Promise<Answer | Refusal> {
  switch (call.method) {
    case "create": {
      const { definition, requestId } = call;
      const message = create(CreateCouponRequestSchema, { coupon: fieldsOf(definition), requestId });
      return withCoupon(await replica.create(message, context));
    }
    case "createMany": {
      const coupons = call.definitions.map(fieldsOf);
      const message = create(BatchCreateCouponsRequestSchema, { coupons, requestId: call.requestId });
      const answer = await replica.createMany(message, context);
      if (answer instanceof Refusal) return answer;
      const outcomes = answer.outcomes.map(({ outcome }) =>
        outcome.case === "coupon"
          ? couponView(outcome.value)
          : { refused: String(ErrorReason[outcome.value?.reason ?? 0]) },
      );
      return { outcomes };
    }
    case "update": {
      const { couponId, revision, change, requestId } = call;
      const message = create(UpdateCouponRequestSchema, {
        coupon: { id: couponId, revision: BigInt(revision), ...fieldsOf(change) },
        updateMask: { paths: Object.keys(change).map((field) => paths[field as keyof typeof paths]) },
        requestId,
      });
      return withCoupon(await replica.update(message, context));
    }
    case "pause":
      return withCoupon(await replica.pause(create(PauseCouponRequestSchema, inputOf(call)), context));
    case "resume":
      return withCoupon(await replica.resume(create(ResumeCouponRequestSchema, inputOf(call)), context));
    case "delete": {
      const message = create(DeleteCouponRequestSchema, {
        ...inputOf(call),
        revision: BigInt(call.revision),
        revokeIssued: call.revoke,
      });
      return withCoupon(await replica.delete(message, context));
    }
    case "getCoupon":
      return withCoupon(await replica.getCoupon(create(GetCouponRequestSchema, inputOf(call)), context));
    case "issue": {
      const { userId, requestId } = call;
      const target = targetFields(call.target);
      const labels = labelFields(call.labels);
      const message = create(IssueCouponRequestSchema, { target, userId, requestId, labels });
      const answer = await replica.issue(message, context);
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
      const message = { userId: call.userId, ...choicesFields(call.choices) };
      const answer = await replica.unlock(create(UnlockCouponsRequestSchema, message), context);
      return answer instanceof Refusal ? answer : { unlocked: [...answer.userCouponIds].sort() };
    }
    case "use": {
      const { order, requestId } = call;
      const labels = labelFields(order.labels);
      const message = create(UseCouponsRequestSchema, { ...orderFields(order), requestId, labels });
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
    case "listCoupons":
    case "searchCoupons":
    case "listUserCoupons":
    case "listUsages":
    case "listCodes":
    case "listJobs":
      return await list(replica, call, context);
    case "page":
      return await onePage(replica, call, context);
    case "getUsage": {
      const answer = await replica.getUsage(create(GetUsageRequestSchema, inputOf(call)), context);
      return answer instanceof Refusal ? answer : usageView(answer.usage as UsageMessage);
    }
    case "getJob": {
      const answer = await replica.getCodeJob(create(GetCodeJobRequestSchema, inputOf(call)), context);
      return answer instanceof Refusal ? answer : jobView(answer.job);
    }
    case "upload":
      return await upload(replica, call, context);
    case "generate":
      return await generate(replica, call, context);
    case "runGenerator":
      return await runGenerator(replica, call, context);
    case "cancelJob":
      return await cancelJob(replica, call, context);
    case "deleteCodes":
      return await deleteCodes(replica, call, context);
    case "getStats": {
      const scope = call.scope ? (targetFields(call.scope) as { case: "couponId"; value: string }) : undefined;
      const answer = await replica.getStats(create(GetStatsRequestSchema, { ...(scope && { scope }) }), context);
      if (answer instanceof Refusal) return answer;
      const { $typeName: _, ...stats } = answer.stats as NonNullable<typeof answer.stats>;
      const counts = Object.fromEntries(Object.entries(stats).map(([name, count]) => [name, Number(count)]));
      return { ...counts, readAt: msOf(answer.readTime) };
    }
    case "step":
      return {};
    case "release":
      await replica.releaser.run();
      return {};
    case "expireCodes":
      await replica.codeExpirer.run();
      return {};
    case "expire":
      await replica.expirer.run();
      return {};
    case "purge": {
      const { userCoupons, codes } = await (call.dryRun ? replica.dryPurger : replica.purger).purge();
      return { userCoupons, codes };
    }
  }
}

function inputOf<C extends Call>({ method: _, ...input }: C): Omit<C, "method"> {
  return input;
}

export interface Batch {
  readonly couponId: string;
  readonly userIds: readonly string[];
  readonly requestId: string;
  readonly labels: string;
}

/** One call for many users: what became of each of them, as if each had called alone. */
export async function performBatch(
  replica: Replica,
  { couponId, userIds, requestId, labels }: Batch,
  timeMs = callerTimeMs,
): Promise<Answer[]> {
  const asked = { couponId, userIds: [...userIds], requestId, labels: labelFields(labels) };
  const message = create(BatchIssueCouponsRequestSchema, asked);
  const answer = await replica.batchIssue(message, callContext(Date.now() + timeMs));
  if (answer instanceof Refusal) throw new Error(answer.reason);
  return answer.outcomes.map(({ outcome, replayed }) =>
    outcome.case === "userCoupon"
      ? { replayed, ...userCouponView(outcome.value) }
      : { refused: String(ErrorReason[outcome.value?.reason ?? 0]) },
  );
}

function refusalView({ reason, detail }: Refusal, call: Call): Answer {
  const { preconditions, retryAfterMs } = detail;
  // The day ends where the process is, whose clock is not moved.
  const isOfQuota = reason === "QUOTA_REACHED" && retryAfterMs !== undefined && retryAfterMs <= longestDayMs;
  const retry = retryAfterMs !== undefined && !isOfQuota && { retryMs: retryAfterMs };
  if (!preconditions || !("order" in call)) return { refused: reason, ...retry };
  const against = call.order.choices.map((_, index) =>
    preconditions.filter(({ field }) => field === `coupons[${index}]` || field === "code").map((one) => one.reason),
  );
  return { refused: reason, against, ...retry };
}
