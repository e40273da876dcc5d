import { randomUUID } from "node:crypto";
import { create, type DescMessage, type DescMethodUnary, type MessageShape } from "@bufbuild/protobuf";
import { pathToString } from "@bufbuild/protobuf/reflect";
import type { Validator } from "@bufbuild/protovalidate";
import type { CallContext } from "../domain/call-context.js";
import { DeadlinePassed, type FieldViolation, invalid, Refusal, refusalOf } from "../domain/refusal.js";
import type { DeadlineMs } from "../storage/ports.js";
import { Failure, failureOf, internalFailure } from "./error-table.js";

/** A call as a front end hands it over. */
export interface IncomingCall {
  readonly frontEnd: "grpc" | "connect";
  header(name: string): string | undefined;
  /** The caller's own deadline in ms since 1970; Infinity when it sent none. */
  readonly deadlineMs: DeadlineMs;
  /** The request, or the refusal that says why the bytes are none. */
  decode(): unknown | Refusal;
}

export type Handler<I extends DescMessage = DescMessage, O extends DescMessage = DescMessage> = (
  request: MessageShape<I>,
  context: CallContext,
) => Promise<MessageShape<O> | Refusal>;

export type Invoke = (call: IncomingCall) => Promise<unknown | Failure>;

export interface CallLog {
  info(details: object, message: string): void;
  error(details: object, message: string): void;
}

export interface CallMetrics {
  /** `reason` is "OK" or an ErrorReason. */
  observe(rpc: string, reason: string, seconds: number): void;
  inFlight(count: number): void;
}

export interface PipelineOptions {
  readonly log: CallLog;
  readonly metrics: CallMetrics;
  readonly validator: Validator;
  /** Past this many calls at once a further one is refused. */
  readonly maxInFlight: number;
  /** For callers that send no deadline. */
  readonly defaultDeadlineMs: number;
  /** What a longer deadline is cut to. */
  readonly maxDeadlineMs: number;
  /** Whether Postgres answers. While it does not, calls are refused at once. */
  readonly isServing: () => boolean;
}

/**
 * Of a caller's time, what is kept for the answer that its time ran out. A caller that hears nothing before its own
 * deadline resets its stream; and under overload those are many, which HTTP/2 takes for an attack.
 */
const answerShare = 0.05;
const maxAnswerMs = 200;

/**
 * What every call goes through on both front ends, in this order: request context - metrics and log - error mapping -
 * capacity - decoding and validation - handler. The log sees the final status.
 */
export class Pipeline {
  private inFlight = 0;

  constructor(private readonly options: PipelineOptions) {}

  mount<I extends DescMessage, O extends DescMessage>(method: DescMethodUnary<I, O>, handler: Handler<I, O>): Invoke {
    return (call) => this.observe(method, handler as unknown as Handler, call);
  }

  /** Plans the validation of every request type, which takes a while and would delay the first call. */
  warm(methods: readonly DescMethodUnary[]): void {
    for (const { input } of methods) this.options.validator.validate(input, create(input) as never);
  }

  private async observe(method: DescMethodUnary, handler: Handler, call: IncomingCall): Promise<unknown | Failure> {
    const { log, metrics } = this.options;
    const startedAt = performance.now();
    const context = this.contextOf(call);
    metrics.inFlight(++this.inFlight);
    const answer = await this.mapErrors(method, handler, call, context);
    metrics.inFlight(--this.inFlight);
    const ms = performance.now() - startedAt;
    const reason = answer instanceof Failure ? answer.reason : "OK";
    metrics.observe(method.name, reason, ms / 1000);
    log.info(
      {
        rpc: method.name,
        requestId: context.requestId,
        status: reason,
        ms: Math.round(ms * 10) / 10,
        via: call.frontEnd,
      },
      "call",
    );
    return answer;
  }

  private contextOf(call: IncomingCall): CallContext {
    const { defaultDeadlineMs, maxDeadlineMs } = this.options;
    const now = Date.now();
    const answerMs = Math.min(maxAnswerMs, Math.max(0, call.deadlineMs - now) * answerShare);
    const deadlineMs = Number.isFinite(call.deadlineMs)
      ? Math.min(call.deadlineMs - answerMs, now + maxDeadlineMs)
      : now + defaultDeadlineMs;
    const given = call.header("x-request-id");
    return { requestId: given && /^[!-~]{1,128}$/.test(given) ? given : randomUUID(), deadlineMs };
  }

  private async mapErrors(
    method: DescMethodUnary,
    handler: Handler,
    call: IncomingCall,
    context: CallContext,
  ): Promise<unknown | Failure> {
    try {
      const answer = await this.serve(method, handler, call, context);
      return answer instanceof Refusal ? failureOf(answer) : answer;
    } catch (error) {
      const refusal = refusalOf(error);
      if (refusal) return failureOf(refusal);
      this.options.log.error({ err: error, rpc: method.name, requestId: context.requestId }, "call failed");
      return internalFailure("INTERNAL", context.requestId);
    }
  }

  private async serve(
    method: DescMethodUnary,
    handler: Handler,
    call: IncomingCall,
    context: CallContext,
  ): Promise<unknown | Refusal> {
    if (this.inFlight > this.options.maxInFlight) return new Refusal("OVERLOADED");
    if (Date.now() >= context.deadlineMs) return new Refusal("DEADLINE_EXCEEDED");
    if (!this.options.isServing()) return new Refusal("STORE_UNAVAILABLE");
    const request = this.read(method, call);
    return request instanceof Refusal ? request : beforeDeadline(handler(request as never, context), context);
  }

  private read(method: DescMethodUnary, call: IncomingCall): unknown | Refusal {
    const request = call.decode();
    if (request instanceof Refusal) return request;
    const violations = violationsIn(this.options.validator, method.input, request as never);
    return violations.length === 0 ? request : invalid(...violations);
  }
}

/** What the rules of the proto files have against a message. */
export function violationsIn<D extends DescMessage>(
  validator: Validator,
  schema: D,
  message: MessageShape<D>,
): FieldViolation[] {
  const result = validator.validate(schema, message);
  if (result.kind === "error") throw result.error;
  return (result.violations ?? []).map(({ field, message: description }) => ({
    field: pathToString(field),
    description,
  }));
}

/** Every wait inside a handler is bounded; this bounds their sum. The handler goes on, and its answer is dropped. */
function beforeDeadline<T>(answer: Promise<T>, { deadlineMs }: CallContext): Promise<T> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => reject(new DeadlinePassed()), deadlineMs - Date.now());
    answer.then(
      (value) => {
        clearTimeout(timer);
        resolve(value);
      },
      (error) => {
        clearTimeout(timer);
        reject(error);
      },
    );
  });
}
