import { create } from "@bufbuild/protobuf";
import { type IssueCouponRequest, IssueCouponResponseSchema } from "../../../gen/coupon/v1/issuance_service_pb.js";
import type { CallContext } from "../../domain/call-context.js";
import { codeKeys, type FoundCode } from "../../domain/code.js";
import type { CouponType } from "../../domain/coupon.js";
import { Refusal } from "../../domain/refusal.js";
import type { Issued, Issuer } from "../../issuing/issuer.js";
import type { TypeIssuer } from "../../issuing/type-issuer.js";
import type { TargetStore } from "../../storage/ports/issues.js";
import { checkedLabels, issuedMessage, typeOf } from "../message.js";

const isRefused = (answer: Issued | Refusal, reason: Refusal["reason"]) =>
  answer instanceof Refusal && answer.reason === reason;

export function issueCoupon(issuer: Issuer, typeIssuer: TypeIssuer, store: TargetStore) {
  const issue = async (
    request: IssueCouponRequest,
    { deadlineMs, yieldPermit, principal, trace }: CallContext,
  ): Promise<Issued | Refusal> => {
    const { target, userId, requestId } = request;
    const labels = checkedLabels(request);
    if (labels instanceof Refusal) return labels;
    switch (target.case) {
      case "code": {
        // Who may not read codes is not told, either, that one exists that others hold.
        const mayKnow = principal.scopes.has("codes.read");
        const find = () => store.findCode(target.value, deadlineMs, mayKnow ? undefined : userId);
        const issueOf = ({ id: codeId, couponId }: Omit<FoundCode, "isTaken">) =>
          issuer.issue({ couponId, codeId, userId, requestId, labels, trace }, deadlineMs, yieldPermit);
        const code = await find();
        let issued = code ? await issueOf(code) : new Refusal("CODE_NOT_FOUND");
        if (code && isRefused(issued, "CODE_NOT_FOUND")) {
          // It was deleted since it was looked up, and what was written may be another coupon's code by now.
          store.forgetCode(target.value);
          const other = await find();
          if (other && other.id !== code.id) issued = await issueOf(other);
        }
        if (isRefused(issued, "CODE_NOT_FOUND") || isRefused(issued, "REQUEST_ID_REUSED")) {
          // Of a repeated request it is the code that it was given, which may be gone since, or another coupon's.
          const earlier = requestId === "" ? null : await store.findEarlierIssue(requestId, deadlineMs);
          if (earlier?.code && earlier.userId === userId && codeKeys(target.value).includes(earlier.code.key))
            issued = await issueOf({ id: earlier.code.id, couponId: earlier.couponId });
        }
        return !mayKnow && isRefused(issued, "CODE_TAKEN") ? new Refusal("CODE_NOT_FOUND") : issued;
      }
      case "type":
        return await typeIssuer.issue(
          { type: typeOf(target.value) as CouponType, userId, requestId, labels, trace },
          deadlineMs,
          yieldPermit,
        );
      default: {
        const couponId = (target.value ?? "").toLowerCase();
        return await issuer.issue({ couponId, userId, requestId, labels, trace }, deadlineMs, yieldPermit);
      }
    }
  };
  return async (request: IssueCouponRequest, context: CallContext) => {
    const issued = await issue(request, context);
    if (issued instanceof Refusal) return issued;
    const response = create(IssueCouponResponseSchema);
    response.userCoupon = issuedMessage(issued.userCoupon, issued.expiresAt, issued.status);
    response.replayed = issued.replayed;
    return response;
  };
}
