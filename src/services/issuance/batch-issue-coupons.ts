import { createHash } from "node:crypto";
import { create } from "@bufbuild/protobuf";
import {
  type BatchIssueCouponsRequest,
  BatchIssueCouponsResponseSchema,
  IssueOutcomeSchema,
} from "../../../gen/coupon/v1/issuance_service_pb.js";
import type { CallContext } from "../../domain/call-context.js";
import { Refusal, refusalIn } from "../../domain/refusal.js";
import type { Issued, Issuer } from "../../issuing/issuer.js";
import { steadyMs } from "../../platform/clock.js";
import { mapInSlices } from "../../platform/json-slices.js";
import { within } from "../../platform/within.js";
import { type Explain, itemError } from "../item-error.js";
import { checkedLabels, issuedMessage } from "../message.js";

/** Users of one call that are issued to at the same time: about as many as one commit has rows. */
const maxUsersAtOnce = 256;
/** Users of all calls under way. */
const maxUsers = 20_000;
/** Of the call's time, what is kept for the answer. Users without an outcome by then get DEADLINE_EXCEEDED. */
const answerShare = 0.25;
const maxAnswerMs = 300;

export function batchIssueCoupons(
  issuer: Pick<Issuer, "issue">,
  explain: Explain,
  /** Told of errors that are bugs. */
  onFault: (error: unknown) => void,
) {
  let underWay = 0;
  return async (call: BatchIssueCouponsRequest, context: CallContext) => {
    const { couponId, userIds, requestId } = call;
    const labels = checkedLabels(call);
    if (labels instanceof Refusal) return labels;
    const leftMs = context.deadlineMs - steadyMs();
    const deadlineMs = context.deadlineMs - Math.min(maxAnswerMs, leftMs * answerShare);
    const issue = async (userId: string): Promise<Issued | Refusal> => {
      try {
        const requestIdOfUser = requestId === "" ? "" : userRequestId(requestId, userId);
        return await issuer.issue(
          {
            couponId: couponId.toLowerCase(),
            userId,
            requestId: requestIdOfUser,
            labels,
          },
          deadlineMs,
        );
      } catch (error) {
        const refusal = refusalIn(error);
        if (!refusal) onFault(error);
        return refusal ?? new Refusal("INTERNAL");
      }
    };

    const issueToAll = async (results: (Issued | Refusal)[]) => {
      const left = userIds.entries();
      const worker = async () => {
        // Each takes the next user that none of the others has taken.
        for (const [index, userId] of left) {
          if (steadyMs() >= deadlineMs) return;
          results[index] = await issue(userId);
        }
      };
      underWay += userIds.length;
      await Promise.all(Array.from({ length: Math.min(maxUsersAtOnce, userIds.length) }, worker));
      underWay -= userIds.length;
    };

    const hasCapacity = underWay + userIds.length <= maxUsers;
    const none = new Refusal(hasCapacity ? "DEADLINE_EXCEEDED" : "OVERLOADED");
    const results: (Issued | Refusal)[] = userIds.map(() => none);
    if (hasCapacity) await within(issueToAll(results), deadlineMs - steadyMs(), () => {});
    const response = create(BatchIssueCouponsResponseSchema);
    response.outcomes = await mapInSlices(userIds, (userId, index) =>
      outcomeOf(userId, results[index] as Issued | Refusal, explain),
    );
    return response;
  };
}

function outcomeOf(userId: string, result: Issued | Refusal, explain: Explain) {
  if (result instanceof Refusal) {
    return create(IssueOutcomeSchema, { userId, outcome: { case: "error", value: itemError(result, explain) } });
  }
  const { userCoupon, expiresAt, status, replayed } = result;
  const value = issuedMessage(userCoupon, expiresAt, status);
  return create(IssueOutcomeSchema, { userId, outcome: { case: "userCoupon", value }, replayed });
}

/**
 * One user's own request id, the same for each repetition: 43 visible characters that no caller chooses by chance. The
 * coupon is not in it: used again for another coupon, it is refused as that of IssueCoupon would be.
 */
export function userRequestId(requestId: string, userId: string): string {
  return createHash("sha256").update(`BatchIssueCoupons\0${requestId}\0${userId}`).digest("base64url");
}
