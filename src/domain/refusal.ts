/**
 * Why a call is refused: the names of `coupon.v1.ErrorReason` without their prefix. The proto file says what each one
 * means; `transport/error-table.ts` says which status code it is sent with.
 */
export const reasons = [
  "INVALID_FIELD",
  "REQUEST_ID_REUSED",
  "MESSAGE_TOO_LARGE",
  "COUPON_NOT_FOUND",
  "USER_COUPON_NOT_FOUND",
  "USAGE_NOT_FOUND",
  "CODE_NOT_FOUND",
  "CODE_JOB_NOT_FOUND",
  "CODE_UPLOAD_NOT_FOUND",
  "KEY_NOT_FOUND",
  "CALLER_NOT_FOUND",
  "COUPON_PAUSED",
  "COUPON_NOT_STARTED",
  "COUPON_ENDED",
  "ALREADY_ISSUED",
  "SOLD_OUT",
  "CODE_TAKEN",
  "CODE_EXPIRED",
  "QUOTA_REACHED",
  "THROTTLED",
  "STALE_REVISION",
  "QUANTITY_BELOW_ISSUED",
  "USAGE_CAP_BELOW_USED",
  "NOT_A_CODE_BOOK",
  "ALREADY_USED",
  "USER_COUPON_REVOKED",
  "USAGE_CAP_REACHED",
  "USER_COUPON_EXPIRED",
  "USER_COUPON_RELEASED",
  "LOCKED",
  "LOCK_LOST",
  "NOT_STACKABLE",
  "CURRENCY_MISMATCH",
  "MINIMUM_ORDER_NOT_REACHED",
  "USAGE_ALREADY_CANCELLED",
  "ORDER_MISMATCH",
  "SEVERAL_USAGES",
  "UNAUTHENTICATED",
  "PERMISSION_DENIED",
  "RATE_LIMITED",
  "KEY_ENDED",
  "CURSOR_TOO_OLD",
  "TOO_MANY_WATCHERS",
  "WATCHER_TOO_SLOW",
  "WATCH_ENDED",
  "OVERLOADED",
  "STORE_UNAVAILABLE",
  "DEADLINE_EXCEEDED",
  "INTERNAL",
] as const;

export type Reason = (typeof reasons)[number];

/** One thing that is wrong with the input. `field` is its path as the caller wrote it: "coupon.discount". */
export interface FieldViolation {
  readonly field: string;
  readonly description: string;
  /** Other paths that it depends on. When one of them is wrong itself, nothing is known of this one. */
  readonly about?: readonly string[];
}

/** A reason against one of several things that a call is about. `field` is the path of that one: "coupons[1]". */
export interface PreconditionViolation {
  readonly reason: Reason;
  readonly field: string;
}

export interface RefusalDetail {
  /** When a retry of the same request can succeed, in ms. Without it the error table's value for the reason holds. */
  readonly retryAfterMs?: number;
  /** Every reason there is, when there may be several. */
  readonly preconditions?: readonly PreconditionViolation[];
  /** What programs may want to know of it, for `ErrorInfo.metadata`. */
  readonly facts?: Readonly<Record<string, string>>;
}

export const noDetail: RefusalDetail = {};

/**
 * A refusal is an ordinary value: functions return `T | Refusal`, and the pipeline turns it into a status. An
 * exception, in contrast, always means a bug or a store that is away.
 */
export class Refusal {
  constructor(
    readonly reason: Reason,
    readonly violations: readonly FieldViolation[] = [],
    /** Overrides the error table's sentence for this reason. */
    readonly message?: string,
    readonly detail: RefusalDetail = noDetail,
  ) {}
}

export function invalid(...violations: FieldViolation[]): Refusal {
  return new Refusal("INVALID_FIELD", violations);
}

export function requestIdReused(): Refusal {
  return new Refusal("REQUEST_ID_REUSED", [{ field: "request_id", description: "was used before with other input" }]);
}

/** Thrown by adapters when their store cannot be reached or does not answer in time. */
export class StoreUnavailable extends Error {
  override readonly name: string = "StoreUnavailable";
}

/** Thrown when others have held some coupons that a batch needs for longer than it waits. Nothing was done this time. */
export class CouponsHeld extends StoreUnavailable {
  override readonly name: string = "CouponsHeld";

  constructor(
    readonly couponIds: ReadonlySet<string>,
    options?: ErrorOptions,
  ) {
    super("others hold coupons", options);
  }
}

/** Thrown when an answer would come too late to be of use. */
export class DeadlinePassed extends Error {
  override readonly name = "DeadlinePassed";
}

/** Thrown by a bounded queue that is full. Nothing was done. */
export class Overloaded extends Error {
  override readonly name = "Overloaded";
}

/** Thrown where a refusal comes too late to be a value: in the middle of a stream. */
export class StreamRefused extends Error {
  override readonly name = "StreamRefused";

  constructor(readonly refusal: Refusal) {
    super(refusal.reason);
  }
}

/** What an exception of those above means to the caller; undefined: it is a bug. */
export function refusalIn(error: unknown): Refusal | undefined {
  if (error instanceof StreamRefused) return error.refusal;
  if (error instanceof DeadlinePassed) return new Refusal("DEADLINE_EXCEEDED");
  if (error instanceof Overloaded) return new Refusal("OVERLOADED");
  if (error instanceof StoreUnavailable) return new Refusal("STORE_UNAVAILABLE");
  return undefined;
}
