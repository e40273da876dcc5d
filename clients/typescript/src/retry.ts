import type { DescMethod } from "@bufbuild/protobuf";
import { MethodOptions_IdempotencyLevel } from "@bufbuild/protobuf/wkt";
import { Code, ConnectError, type Interceptor, type UnaryRequest } from "@connectrpc/connect";
import { RetryBudget } from "./budget.js";
import { type Reason, refusalOf } from "./refusal.js";
import { hasRequestId } from "./request-id.js";
import { pause } from "./waiting.js";

export interface RetryOptions {
  /** How often a call is tried at most, from 1 (never again) to 10. Default: 4. */
  readonly attempts?: number;
  /** How many retries the client may make at once, from 1 to 1,000; calls that succeed give a tenth of one back. Default: 10. */
  readonly budget?: number;
  /** How long one try may take, in milliseconds, before the next one. Default: as long as the call has. */
  readonly attemptTimeoutMs?: number;
}

/** Refusals that end by waiting. LOCKED and QUOTA_REACHED do, too, but are for people to wait for. */
const passing: ReadonlySet<Reason> = new Set<Reason>([
  ...(["OVERLOADED", "STORE_UNAVAILABLE", "RATE_LIMITED", "THROTTLED", "DEADLINE_EXCEEDED"] as const),
]);
/** Of these, the ones that say that nothing was done. */
const nothingDone: ReadonlySet<Reason> = new Set<Reason>(["OVERLOADED", "RATE_LIMITED", "THROTTLED"]);
/** What a transport says when a call was lost: of a connection that was reset or closed, Connect says ABORTED or CANCELED. */
const lost: ReadonlySet<Code> = new Set([
  ...[Code.Unavailable, Code.Internal, Code.DeadlineExceeded, Code.Aborted, Code.Canceled],
]);

const firstBackoffMs = 100;
const maxBackoffMs = 3_000;

/** Headers that say how long a call may take, and how each of them writes it. */
const timeoutHeaders: readonly (readonly [string, (ms: number) => string])[] = [
  ["grpc-timeout", (ms) => `${ms}m`],
  ["connect-timeout-ms", String],
];

/** Tries unary calls again that may be tried again, within the deadline of the whole call. */
export function retrying(options: RetryOptions, life: { readonly isOver: boolean }): Interceptor {
  const attempts = options.attempts ?? 4;
  const budget = new RetryBudget(options.budget ?? 10);
  return (next) => async (request) => {
    if (request.stream) return await next(request);
    const startedMs = performance.now();
    const allowedMs = timeoutOf(request);
    const leftMs = () => (allowedMs === undefined ? Infinity : allowedMs - (performance.now() - startedMs));
    for (let attempt = 1; ; attempt += 1) {
      const { signal, gaveUp } = oneAttempt(request.signal, options.attemptTimeoutMs);
      try {
        const response = await next({ ...request, signal, header: request.header });
        budget.succeeded();
        return response;
      } catch (error) {
        if (request.signal.aborted || life.isOver || attempt >= attempts) throw error;
        if (!mayRepeat(request.method, error, gaveUp())) throw error;
        const waitMs = waitFor(error, attempt);
        if (waitMs === undefined || waitMs >= leftMs() || !budget.take()) throw error;
        await pause(waitMs, request.signal);
      }
      sayTimeout(request, Math.max(1, Math.floor(leftMs())));
    }
  };
}

/** The signal of one try, and whether it was that one's own time that ran out. */
function oneAttempt(call: AbortSignal, timeoutMs: number | undefined) {
  if (timeoutMs === undefined) return { signal: call, gaveUp: () => false };
  const own = AbortSignal.timeout(timeoutMs);
  return { signal: AbortSignal.any([call, own]), gaveUp: () => own.aborted };
}

function mayRepeat(method: DescMethod, error: unknown, gaveUp: boolean): boolean {
  const harmless = method.idempotency === MethodOptions_IdempotencyLevel.NO_SIDE_EFFECTS || hasRequestId(method);
  const refusal = refusalOf(error);
  if (refusal) return passing.has(refusal.reason) && (harmless || nothingDone.has(refusal.reason));
  return harmless && (gaveUp || wasLost(error));
}

/** Nobody knows what became of it. Browsers say of a server that is not there, too, only that fetch failed. */
function wasLost(error: unknown): boolean {
  if (error instanceof TypeError) return true;
  return error instanceof ConnectError && (lost.has(error.code) || error.cause instanceof TypeError);
}

/** Never before the time that the service has named; otherwise anywhere in a time that doubles. Undefined: not at all. */
function waitFor(error: unknown, attempt: number): number | undefined {
  const backoffMs = Math.random() * Math.min(maxBackoffMs, firstBackoffMs * 2 ** (attempt - 1));
  const pushback = error instanceof ConnectError ? error.metadata.get("grpc-retry-pushback-ms") : null;
  const pushbackMs = pushback === null ? undefined : Number(pushback);
  // The gRPC specification: what is negative, or no number, means that the call must not be repeated.
  if (pushbackMs !== undefined && !(pushbackMs >= 0)) return undefined;
  return (pushbackMs ?? refusalOf(error)?.retryAfterMs ?? 0) + backoffMs;
}

function timeoutOf({ header }: UnaryRequest): number | undefined {
  for (const [name] of timeoutHeaders) {
    const text = header.get(name);
    if (text !== null) return Number.parseInt(text, 10);
  }
  return undefined;
}

/** So that the service does not work for a caller that is gone. */
function sayTimeout({ header }: UnaryRequest, ms: number): void {
  for (const [name, written] of timeoutHeaders) if (header.has(name)) header.set(name, written(ms));
}
