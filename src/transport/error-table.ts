import { create, type DescMessage, type Message, type MessageShape, toBinary } from "@bufbuild/protobuf";
import { anyPack, durationFromMs } from "@bufbuild/protobuf/wkt";
import {
  type BadRequest,
  BadRequest_FieldViolationSchema,
  BadRequestSchema,
  ErrorInfoSchema,
  PreconditionFailure_ViolationSchema,
  PreconditionFailureSchema,
  RequestInfoSchema,
  RetryInfoSchema,
} from "../../gen/google/rpc/error_details_pb.js";
import { StatusSchema } from "../../gen/google/rpc/status_pb.js";
import { type FieldViolation, noDetail, type Reason, type Refusal } from "../domain/refusal.js";
import { cut } from "../platform/cut.js";

/** `ErrorInfo.domain` of every error. */
export const errorDomain = "coupon.v1";

/** The status codes of gRPC that are sent; Connect uses the same numbers. */
export const Code = {
  invalidArgument: 3,
  deadlineExceeded: 4,
  notFound: 5,
  alreadyExists: 6,
  permissionDenied: 7,
  resourceExhausted: 8,
  failedPrecondition: 9,
  aborted: 10,
  internal: 13,
  unavailable: 14,
  unauthenticated: 16,
} as const;
export type Code = (typeof Code)[keyof typeof Code];

/** As gRPC spells them: `invalidArgument` is INVALID_ARGUMENT. */
export const codeNames: ReadonlyMap<Code, string> = new Map(
  Object.entries(Code).map(([name, code]) => [code, name.replace(/[A-Z]/g, "_$&").toUpperCase()]),
);

interface ErrorRow {
  readonly code: Code;
  readonly message: string;
  /** Set where a later retry of the same request can succeed. */
  readonly retryAfterMs?: number;
}

/** The one place that says how each reason is sent. The comments of `ErrorReason` in the proto file say the same. */
export const errorTable: Readonly<Record<Reason, ErrorRow>> = {
  INVALID_FIELD: { code: Code.invalidArgument, message: "a field is missing, malformed or out of its range" },
  REQUEST_ID_REUSED: { code: Code.invalidArgument, message: "this request_id was used before with other input" },
  MESSAGE_TOO_LARGE: { code: Code.resourceExhausted, message: "the message is larger than the method accepts" },
  COUPON_NOT_FOUND: { code: Code.notFound, message: "there is no such coupon" },
  USER_COUPON_NOT_FOUND: { code: Code.notFound, message: "the user holds no such user coupon" },
  USAGE_NOT_FOUND: { code: Code.notFound, message: "the user has no such usage" },
  CODE_NOT_FOUND: { code: Code.notFound, message: "there is no such code" },
  CODE_JOB_NOT_FOUND: { code: Code.notFound, message: "there is no such code job" },
  CODE_UPLOAD_NOT_FOUND: { code: Code.notFound, message: "there is no such upload of codes" },
  KEY_NOT_FOUND: { code: Code.notFound, message: "there is no such key" },
  CALLER_NOT_FOUND: { code: Code.notFound, message: "there is no caller of this name" },
  COUPON_PAUSED: { code: Code.failedPrecondition, message: "issuing of this coupon is paused" },
  COUPON_NOT_STARTED: { code: Code.failedPrecondition, message: "the coupon's start time has not come yet" },
  COUPON_ENDED: { code: Code.failedPrecondition, message: "the coupon's expire time has passed" },
  ALREADY_ISSUED: { code: Code.alreadyExists, message: "the user holds as many of this coupon as one user may" },
  SOLD_OUT: { code: Code.failedPrecondition, message: "the whole quantity has been issued" },
  CODE_TAKEN: { code: Code.failedPrecondition, message: "as many users hold this code as may" },
  CODE_EXPIRED: { code: Code.failedPrecondition, message: "the code's expire time has passed" },
  QUOTA_REACHED: {
    code: Code.resourceExhausted,
    message: "the user was issued as many of the quota group today as may be",
    retryAfterMs: 3_600_000,
  },
  THROTTLED: {
    code: Code.resourceExhausted,
    message: "the coupon is throttled and the caller's turn cannot come in time",
    retryAfterMs: 1_000,
  },
  STALE_REVISION: { code: Code.aborted, message: "the coupon has changed since this revision" },
  QUANTITY_BELOW_ISSUED: {
    code: Code.failedPrecondition,
    message: "the quantity is below what has already been issued",
  },
  USAGE_CAP_BELOW_USED: {
    code: Code.failedPrecondition,
    message: "the usage cap is below the places that uses have taken",
  },
  NOT_A_CODE_BOOK: { code: Code.failedPrecondition, message: "the coupon is not a code book" },
  ALREADY_USED: { code: Code.failedPrecondition, message: "the user coupon has been used as often as it may be" },
  USER_COUPON_REVOKED: { code: Code.failedPrecondition, message: "the user coupon was revoked" },
  USAGE_CAP_REACHED: { code: Code.failedPrecondition, message: "the coupon has been used as often as it may be" },
  USER_COUPON_EXPIRED: { code: Code.failedPrecondition, message: "the user coupon's expire time has passed" },
  USER_COUPON_RELEASED: {
    code: Code.failedPrecondition,
    message: "the user coupon was not used in time and went back",
  },
  LOCKED: { code: Code.failedPrecondition, message: "another checkout holds the user coupon", retryAfterMs: 1_000 },
  LOCK_LOST: { code: Code.failedPrecondition, message: "the lock does not stand any more" },
  NOT_STACKABLE: { code: Code.failedPrecondition, message: "the coupon cannot be combined with others in one order" },
  ORDER_MISMATCH: {
    code: Code.failedPrecondition,
    message: "the order was used before with another amount or currency",
  },
  CURRENCY_MISMATCH: { code: Code.failedPrecondition, message: "the coupon is for orders in another currency" },
  MINIMUM_ORDER_NOT_REACHED: {
    code: Code.failedPrecondition,
    message: "the order amount is below the coupon's minimum",
  },
  USAGE_ALREADY_CANCELLED: { code: Code.failedPrecondition, message: "the usage has been cancelled before" },
  SEVERAL_USAGES: {
    code: Code.failedPrecondition,
    message: "several usages of the user coupon stand: name one by its id",
  },
  UNAUTHENTICATED: { code: Code.unauthenticated, message: "the call brings no credentials that hold" },
  PERMISSION_DENIED: { code: Code.permissionDenied, message: "the caller may not call this method" },
  RATE_LIMITED: {
    code: Code.resourceExhausted,
    message: "the caller has made as many calls of this kind as it may",
    retryAfterMs: 1_000,
  },
  KEY_ENDED: { code: Code.failedPrecondition, message: "the key was revoked, or has expired" },
  CURSOR_TOO_OLD: {
    code: Code.failedPrecondition,
    message: "what the cursor names is not there any more; metadata has the oldest cursor",
  },
  TOO_MANY_WATCHERS: {
    code: Code.resourceExhausted,
    message: "as many streams of events are open as there may be",
    retryAfterMs: 5_000,
  },
  WATCHER_TOO_SLOW: { code: Code.resourceExhausted, message: "a message was not taken for too long" },
  WATCH_ENDED: {
    code: Code.unavailable,
    message: "the server stops; go on with another one after the last cursor",
    retryAfterMs: 100,
  },
  OVERLOADED: { code: Code.unavailable, message: "the server has too much to do; nothing was done", retryAfterMs: 500 },
  STORE_UNAVAILABLE: { code: Code.unavailable, message: "a store did not answer", retryAfterMs: 1_000 },
  DEADLINE_EXCEEDED: { code: Code.deadlineExceeded, message: "the deadline has passed" },
  INTERNAL: { code: Code.internal, message: "a fault of the server" },
};

/** What is said of a reason to people. */
export function messageOf(reason: Reason): string {
  return errorTable[reason].message;
}

/**
 * Fields named in one error, bytes of each name, of what is said of it, and of all that is said. Errors travel in trailers, and a
 * client whose limit they exceed (8 KiB in some, 64 KiB in grpc-js) gets none of them, or even loses its connection; beyond 64 KiB
 * they are not sent at all. There, the text takes three characters for each byte that is escaped, and it and the fields are in
 * the details once more, which take four for three: 40 KB at the most.
 */
const maxViolations = 20;
const maxFieldBytes = 300;
const maxDescriptionBytes = 400;
const maxTextBytes = 4_096;

export interface OutgoingDetail {
  readonly desc: DescMessage;
  readonly value: Message;
}

/** How a call ended, if not well: what both front ends need to say so. */
export class Failure {
  constructor(
    readonly reason: Reason,
    readonly code: Code,
    readonly message: string,
    readonly details: readonly OutgoingDetail[],
    /** The serialized google.rpc.Status. */
    readonly status: Buffer,
    /** When a retry may succeed, as its RetryInfo says. */
    readonly retryAfterMs: number | undefined,
  ) {}

  /** Its details as bytes with the names of their types. */
  get packed(): readonly { readonly typeName: string; readonly bytes: Uint8Array }[] {
    return this.details.map(({ desc, value }) => ({
      typeName: desc.typeName,
      bytes: toBinary(desc, value as never),
    }));
  }
}

const plain = new Map<Reason, Failure>();

/** As many different waits are told to callers that are refused, so that they do not come back together. */
const jitterSteps = 16;
/** From the table's own value up to so many times as much. */
const jitterFactor = 3;

/** Reasons for which many are refused at the same moment. */
const crowded: readonly Reason[] = ["OVERLOADED", "STORE_UNAVAILABLE", "WATCH_ENDED"];
const spread = new Map<Reason, readonly Failure[]>();

function spreadFailure(reason: Reason): Failure {
  let failures = spread.get(reason);
  if (!failures) {
    const leastMs = errorTable[reason].retryAfterMs as number;
    failures = Array.from({ length: jitterSteps }, (_, step) => {
      const retryAfterMs = Math.round(leastMs * (1 + ((jitterFactor - 1) * step) / (jitterSteps - 1)));
      return build({ reason, violations: [], detail: { retryAfterMs } });
    });
    spread.set(reason, failures);
  }
  return failures[Math.floor(Math.random() * jitterSteps)] as Failure;
}

/** What is said to those who are refused before a call is made of what they ask. */
export function failureBeforeCall(reason: "OVERLOADED" | "STORE_UNAVAILABLE"): Failure {
  return spreadFailure(reason);
}

/** Most refusals carry nothing of their own: those are built once. */
export function failureOf(refusal: Refusal): Failure {
  if (refusal.violations.length > 0 || refusal.message || refusal.detail !== noDetail) return build(refusal);
  if (crowded.includes(refusal.reason)) return spreadFailure(refusal.reason);
  let failure = plain.get(refusal.reason);
  if (!failure) {
    failure = build(refusal);
    plain.set(refusal.reason, failure);
  }
  return failure;
}

/** A fault of the server, with the id under which it is in the log. */
export function internalFailure(requestId: string): Failure {
  return build({ reason: "INTERNAL", violations: [], detail: noDetail }, requestId);
}

/** What is said of a refusal to people, and of how many fields. All of it can be sent, whatever the caller has sent. */
export function explain({ reason, violations, message }: Pick<Refusal, "reason" | "violations" | "message">): {
  readonly text: string;
  readonly violations: readonly FieldViolation[];
} {
  const named = violations.slice(0, maxViolations).map(({ field, description }) => ({
    field: cut(field, maxFieldBytes),
    description: cut(description, maxDescriptionBytes),
  }));
  const said = named.map(({ field, description }) => (field ? `${field}: ${description}` : description)).join("; ");
  return { text: cut(message ?? (said || messageOf(reason)), maxTextBytes), violations: named };
}

function build(refusal: Pick<Refusal, "reason" | "violations" | "message" | "detail">, requestId?: string): Failure {
  const { reason, detail } = refusal;
  const { text, violations } = explain(refusal);
  const row = errorTable[reason];
  const details: OutgoingDetail[] = [];
  const add = <D extends DescMessage>(desc: D, value: MessageShape<D>) => details.push({ desc, value });
  add(ErrorInfoSchema, create(ErrorInfoSchema, { reason, domain: errorDomain, metadata: { ...detail.facts } }));
  if (violations.length > 0) {
    const fieldViolations = violations.map((one) => create(BadRequest_FieldViolationSchema, { ...one, reason: "" }));
    const badRequest: BadRequest = create(BadRequestSchema, { fieldViolations });
    add(BadRequestSchema, badRequest);
  }
  if (detail.preconditions) {
    const preconditions = detail.preconditions.map(({ reason: type, field: subject }) =>
      create(PreconditionFailure_ViolationSchema, { type, subject, description: messageOf(type) }),
    );
    add(PreconditionFailureSchema, create(PreconditionFailureSchema, { violations: preconditions }));
  }
  const retryAfterMs = detail.retryAfterMs ?? row.retryAfterMs;
  // With several reasons the first one's own value says nothing: only whoever made the refusal knows what a retry is good for.
  const saysWhen =
    retryAfterMs !== undefined && (detail.retryAfterMs !== undefined || (detail.preconditions?.length ?? 0) < 2);
  if (saysWhen) {
    add(RetryInfoSchema, create(RetryInfoSchema, { retryDelay: durationFromMs(retryAfterMs) }));
  }
  if (requestId) add(RequestInfoSchema, create(RequestInfoSchema, { requestId }));
  const status = create(StatusSchema, {
    code: row.code,
    message: text,
    details: details.map(({ desc, value }) => anyPack(desc, value as never)),
  });
  const bytes = Buffer.from(toBinary(StatusSchema, status));
  return new Failure(reason, row.code, text, details, bytes, saysWhen ? retryAfterMs : undefined);
}
