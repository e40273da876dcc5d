import type { DescMethodUnary } from "@bufbuild/protobuf";
import { ErrorReason } from "../../gen/coupon/v1/error_reason_pb.js";
import type { IssueCouponRequest } from "../../gen/coupon/v1/issuance_service_pb.js";
import type { CouponChoice, QuoteUsageResponse } from "../../gen/coupon/v1/usage_service_pb.js";
import type { WrongCodes } from "../auth/limits/wrong-codes.js";
import { Refusal } from "../domain/refusal.js";
import { callKindOf } from "../transport/overload/call-kind.js";
import type { Handler } from "../transport/pipeline.js";

/** The fields by which a request may name codes. */
interface NamesCodes {
  readonly userId: string;
  readonly target?: IssueCouponRequest["target"];
  readonly coupons?: readonly CouponChoice[];
  readonly code?: string;
}

/** A handler whose callers are slowed down when they name too many codes that are wrong. */
export function guessing<H extends Handler<never, never>>(
  method: DescMethodUnary,
  handler: H,
  wrongCodes: WrongCodes | undefined,
): H {
  if (!wrongCodes) return handler;
  const kind = callKindOf(method);
  const guarded: Handler = async (request, context) => {
    const named = request as unknown as NamesCodes;
    const codeCount = countOf(named);
    const handle = handler as unknown as Handler;
    if (codeCount === 0) return await handle(request, context);
    const end = wrongCodes.begin(context.principal, named.userId, codeCount, kind);
    if (end instanceof Refusal) return end;
    let wrongCount = 0;
    try {
      const answer = await handle(request, context);
      wrongCount = Math.min(codeCount, wrongIn(answer, codeCount));
      return answer;
    } finally {
      end(wrongCount);
    }
  };
  return guarded as unknown as H;
}

function countOf({ target, code = "", coupons = [] }: NamesCodes): number {
  return (
    (target?.case === "code" || code !== "" ? 1 : 0) + coupons.filter((choice) => choice.target.case === "code").length
  );
}

function wrongIn(answer: unknown, codeCount: number): number {
  if (!(answer instanceof Refusal)) {
    const { quotes = [] } = answer as Partial<QuoteUsageResponse>;
    return quotes.filter(({ objections }) => objections.some(({ reason }) => reason === ErrorReason.CODE_NOT_FOUND))
      .length;
  }
  const { reason, detail } = answer;
  if (detail.preconditions) return detail.preconditions.filter((one) => one.reason === "CODE_NOT_FOUND").length;
  if (reason === "CODE_NOT_FOUND") return 1;
  // UnlockCoupons says that of any of them, and not which.
  return reason === "USER_COUPON_NOT_FOUND" ? codeCount : 0;
}
