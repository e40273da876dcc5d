import { durationMs } from "@bufbuild/protobuf/wkt";
import { Code, ConnectError, type Interceptor } from "@connectrpc/connect";
import {
  BadRequestSchema,
  ErrorInfoSchema,
  ErrorReason,
  PreconditionFailureSchema,
  RequestInfoSchema,
  RetryInfoSchema,
} from "./contract.js";

/** Why the service refused, as in the contract. A service that is newer than this client may say others. */
export type Reason = Exclude<keyof typeof ErrorReason, "UNSPECIFIED">;

/** What the service says with a no. */
export interface Refusal<R extends Reason = Reason> {
  readonly reason: R;
  /** For people. */
  readonly message: string;
  readonly code: Code;
  readonly metadata: Readonly<Record<string, string>>;
  /** Each field that is wrong, by its path: `coupon.discount.fixed_amount.currency_code`. */
  readonly fieldViolations: readonly { readonly field: string; readonly description: string }[];
  /** Of calls about several coupons: each reason against each of them, by its path: `coupons[1]`. */
  readonly preconditions: readonly { readonly field: string; readonly reason: Reason; readonly description: string }[];
  /** When the same request can succeed. Undefined: waiting does not help. */
  readonly retryAfterMs: number | undefined;
  /** Of a fault of the service: the id under which it is in the log there. */
  readonly faultId: string | undefined;
}

/** What a call of this client throws when the service has refused it. Its name is that of every ConnectError, by which those are told. */
export class RefusalError<R extends Reason = Reason> extends ConnectError {
  readonly refusal: Refusal<R>;

  constructor(error: ConnectError, refusal: Refusal<R>) {
    super(error.rawMessage, error.code, error.metadata, undefined, error.cause);
    this.details = error.details;
    this.refusal = refusal;
  }

  // Without this, `instanceof` would ask ConnectError's own test, which every ConnectError passes.
  static override [Symbol.hasInstance](value: unknown): boolean {
    return ConnectError[Symbol.hasInstance](value) && typeof (value as Partial<RefusalError>).refusal === "object";
  }
}

/** Whose `ErrorInfo.reason` is one of the contract. */
const domain = "coupon.v1";

/** What the service said, or undefined: the error is none of the service's, but of the transport, the deadline or a bug. */
export function refusalOf(error: unknown): Refusal | undefined {
  if (!(error instanceof ConnectError)) return undefined;
  if (error instanceof RefusalError) return error.refusal;
  const info = error.findDetails(ErrorInfoSchema).find((one) => one.domain === domain);
  if (!info) return undefined;
  const delay = error.findDetails(RetryInfoSchema)[0]?.retryDelay;
  return {
    reason: info.reason as Reason,
    message: error.rawMessage,
    code: error.code,
    metadata: info.metadata,
    fieldViolations: error
      .findDetails(BadRequestSchema)
      .flatMap(({ fieldViolations }) => fieldViolations.map(({ field, description }) => ({ field, description }))),
    preconditions: error.findDetails(PreconditionFailureSchema).flatMap(({ violations }) =>
      violations.map(({ subject, type, description }) => ({
        field: subject,
        reason: type as Reason,
        description,
      })),
    ),
    retryAfterMs: delay && durationMs(delay),
    faultId: error.findDetails(RequestInfoSchema)[0]?.requestId,
  };
}

/** Whether the service refused for one of these reasons; without any, whether it refused at all. */
export function isRefusal<R extends Reason = Reason>(
  error: unknown,
  ...reasons: readonly R[]
): error is RefusalError<R> {
  if (!(error instanceof RefusalError)) return false;
  return reasons.length === 0 || reasons.includes(error.refusal.reason as R);
}

/** The name of a reason that an item of a batch has: `SOLD_OUT`. */
export function reasonOf({ reason }: { readonly reason: ErrorReason }): Reason {
  return (ErrorReason[reason] ?? `REASON_${reason}`) as Reason;
}

/** A refusal as what it is; any other error as it came. */
export function told(error: unknown): unknown {
  const refusal = refusalOf(error);
  return refusal ? new RefusalError(error as ConnectError, refusal) : error;
}

/** Throws refusals as what they are. Those that end a stream come later, while it is read. */
export const tellRefusals: Interceptor = (next) => async (request) => {
  try {
    return await next(request);
  } catch (error) {
    throw told(error);
  }
};

export { Code, ConnectError };
