import { create } from "@bufbuild/protobuf";
import { type CouponChoice, CouponChoiceSchema } from "../../../gen/coupon/v1/usage_service_pb.js";
import type { CallContext } from "../../domain/call-context.js";
import { type FieldViolation, invalid, Refusal } from "../../domain/refusal.js";

/** The fields by which a request names what it is about: a list, or one code. */
export interface OneCodeMessage {
  readonly coupons: CouponChoice[];
  readonly code: string;
  readonly lockVersion: bigint;
}

type Handler<M, R> = (request: M, context: CallContext) => Promise<R | Refusal>;

/**
 * A handler that knows lists only, made to understand a request that has one code instead: for all that follows, and for
 * repeated calls, it is the same request.
 */
export function takingOneCode<M extends OneCodeMessage, R>(
  handler: Handler<M, R>,
  wrongIn: (request: M) => readonly FieldViolation[],
): Handler<M, R> {
  return async (request, context) => {
    if (wrongForm(request).length > 0) return invalid(...wrongIn(request));
    if (request.code === "") return handler(request, context);
    const answer = await handler(asList(request), context);
    return answer instanceof Refusal ? refusedAsSent(answer) : answer;
  };
}

/** What is wrong with the form of such a request, and what the function for lists has against it. */
export function wrongWithOneCode<M extends OneCodeMessage>(wrongIn: (request: M) => readonly FieldViolation[]) {
  return (request: M): FieldViolation[] => {
    const wrong = wrongForm(request);
    if (request.code === "" || wrong.length > 0) return [...wrong, ...wrongIn({ ...request, code: "" })];
    return wrongIn(asList(request)).map(asSent);
  };
}

function wrongForm({ coupons, code, lockVersion }: OneCodeMessage): FieldViolation[] {
  if (code !== "") {
    return coupons.length > 0 ? [{ field: "code", description: "cannot be set beside coupons" }] : [];
  }
  return [
    ...(coupons.length === 0 ? [{ field: "coupons", description: "must contain at least 1 item(s)" }] : []),
    ...(lockVersion !== 0n ? [{ field: "lock_version", description: "can only be set with code" }] : []),
  ];
}

function asList<M extends OneCodeMessage>(request: M): M {
  const { code, lockVersion } = request;
  const choice = create(CouponChoiceSchema, { target: { case: "code", value: code }, lockVersion });
  return { ...request, coupons: [choice], code: "", lockVersion: 0n };
}

/** The caller hears of the fields that it has sent. */
function asSent<V extends { readonly field: string }>(violation: V): V {
  return { ...violation, field: violation.field.replace(/^coupons\[0\]\./, "").replace(/^coupons\[0\]$/, "code") };
}

function refusedAsSent({ reason, violations, message, detail }: Refusal): Refusal {
  const { preconditions } = detail;
  const told = preconditions ? { ...detail, preconditions: preconditions.map(asSent) } : detail;
  return new Refusal(reason, violations.map(asSent), message, told);
}
