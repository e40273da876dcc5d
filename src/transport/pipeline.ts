import { randomUUID } from "node:crypto";
import {
  create,
  type DescMessage,
  type DescMethodServerStreaming,
  type DescMethodUnary,
  type MessageShape,
} from "@bufbuild/protobuf";
import { pathToString } from "@bufbuild/protobuf/reflect";
import type { Validator } from "@bufbuild/protovalidate";
import type { Authenticator, Credentials } from "../auth/authenticator.js";
import type { Begun, CallerRates } from "../auth/limits/caller-rates.js";
import type { CallContext, CallTrace, StreamContext } from "../domain/call-context.js";
import { anybody } from "../domain/principal.js";
import { type FieldViolation, invalid, Refusal, refusalIn } from "../domain/refusal.js";
import { andAlso } from "../domain/violations.js";
import { steadyMs } from "../platform/clock.js";
import { errorCode } from "../platform/error-code.js";
import type { DeadlineMs } from "../storage/ports/page.js";
import { Authorization } from "./authorization.js";
import { CallReport, type ReportOptions } from "./call-report.js";
import { Failure, failureOf, internalFailure } from "./error-table.js";
import { HandlerWaits } from "./handler-waits.js";
import type { MaybePromise } from "./messages/decode.js";
import { inOrder } from "./messages/field-order.js";
import { Misread } from "./messages/wrong-fields.js";
import { type OnRefused, refusalsOf } from "./on-record.js";
import type { Permit } from "./overload/admission.js";
import { isOrdinary } from "./overload/call-kind.js";
import type { ServedMethod } from "./routes.js";
import { streamOf } from "./stream-context.js";

/** A call as a front end hands it over, after it was let in. */
export interface IncomingCall extends Credentials {
  readonly frontEnd: "grpc" | "connect" | "rest";
  /** The caller's own deadline in ms since 1970; Infinity when it sent none. */
  readonly deadlineMs: DeadlineMs;
  /** What lets it be at work, kept until its handler is done. */
  readonly permit: Permit;
  /** Of a call whose answer is a stream: aborted when nobody is there any more. */
  readonly signal?: AbortSignal;
  /** Put there by the pipeline: what names this call in its answer, as `x-request-id`. */
  requestId?: string;
  /** The request, or the refusal that says why the bytes are none. Only what is large or compressed takes a promise. */
  decode(): MaybePromise<unknown | Refusal>;
}

export type Handler<I extends DescMessage = DescMessage, O extends DescMessage = DescMessage> = (
  request: MessageShape<I>,
  context: CallContext,
) => Promise<MessageShape<O> | Refusal>;

/** Answers what makes the messages, or the refusal. What it makes them with throws StreamRefused for one that comes later. */
export type StreamHandler<I extends DescMessage = DescMessage, O extends DescMessage = DescMessage> = (
  request: MessageShape<I>,
  context: StreamContext,
) => Promise<AsyncIterable<MessageShape<O>> | Refusal>;

/**
 * What the domain has against a request, as far as it can be told without the stores. Asked for only when other fields are
 * known to be wrong, so that all are named in one answer; a handler checks again what it needs.
 */
export type AlsoWrong<I extends DescMessage = DescMessage> = (request: MessageShape<I>) => readonly FieldViolation[];

/** Answers what `send` makes of the answer, a message or all that come one after the other, or the failure. Never rejects. */
export type Invoke = <T>(call: IncomingCall, send: (answer: never) => MaybePromise<T>) => Promise<T | Failure>;

export interface PipelineOptions extends ReportOptions {
  readonly validator: Validator;
  readonly authenticator: Authenticator;
  /** Absent: each caller may make as many calls as there is room for. */
  readonly rates?: CallerRates | undefined;
  /** For callers that send no deadline. */
  readonly defaultDeadlineMs: number;
  /** What a longer deadline is cut to. */
  readonly maxDeadlineMs: number;
  /** Puts administrative calls on record that were refused; what they did is put there by the stores. */
  readonly onRefused?: OnRefused;
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
 * What every call that was let in goes through on both front ends, in this order: request context -
 * authentication and authorisation - limits by caller - decoding and validation - handler - encoding - error mapping -
 * metrics, trace and log. These see the final status.
 */
export class Pipeline {
  private readonly waits = new HandlerWaits();

  constructor(private readonly options: PipelineOptions) {}

  mount<I extends DescMessage, O extends DescMessage>(
    method: DescMethodUnary<I, O>,
    handler: Handler<I, O>,
    alsoWrong: AlsoWrong<I> = () => [],
  ): Invoke {
    return this.mountAny(method, handler as unknown as Handler, alsoWrong as AlsoWrong);
  }

  /** The call is at work, with a permit, until its stream begins; its log line and metrics come when that has ended. */
  mountStream<I extends DescMessage, O extends DescMessage>(
    method: DescMethodServerStreaming<I, O>,
    handler: StreamHandler<I, O>,
    alsoWrong: AlsoWrong<I> = () => [],
  ): Invoke {
    return this.mountAny(method, handler as unknown as Handler, alsoWrong as AlsoWrong);
  }

  private mountAny(method: ServedMethod, handler: Handler, alsoWrong: AlsoWrong): Invoke {
    const authorization = new Authorization(method);
    const mounted: Mounted = {
      ...{ method, authorization, handler, alsoWrong, report: new CallReport(method, this.options) },
      onRefused: refusalsOf(method, authorization.scope, this.options.onRefused),
    };
    return (call, send) => this.observe(mounted, call, send);
  }

  /** Plans the validation of every request type, which takes a while and would delay the first call. */
  warm(methods: readonly ServedMethod[]): void {
    for (const { input } of methods) this.options.validator.validate(input, create(input) as never);
  }

  /** Answers all calls at work that what they asked for may or may not be done: the process stops, and waits no longer. */
  giveUp(): void {
    this.waits.giveUp();
  }

  private async observe<T>(
    mounted: Mounted,
    call: IncomingCall,
    send: (answer: never) => MaybePromise<T>,
  ): Promise<T | Failure> {
    const { method, report } = mounted;
    const begun = report.begin(call);
    const context = this.contextOf(call, method, begun.span?.steps);
    call.requestId = context.requestId;
    let answer: T | Failure;
    let storeCode: string | undefined;
    try {
      const served = await this.serve(mounted, call, context);
      if (served instanceof Refusal) mounted.onRefused?.(context, served);
      const sent = served instanceof Refusal ? failureOf(ordered(method, served)) : send(served as never);
      answer = sent instanceof Promise ? await sent : sent;
    } catch (error) {
      answer = this.failureOf(error, method, context);
      storeCode = errorCode(error);
    }
    report.end(begun, { context, failure: answer instanceof Failure ? answer : undefined, storeCode });
    return answer;
  }

  private contextOf(call: IncomingCall, { name }: ServedMethod, trace: CallTrace | undefined): OpenContext {
    const { defaultDeadlineMs, maxDeadlineMs } = this.options;
    const now = steadyMs();
    const answerMs = Math.min(maxAnswerMs, Math.max(0, call.deadlineMs - now) * answerShare);
    const wantedMs = Number.isFinite(call.deadlineMs) ? call.deadlineMs - answerMs : now + defaultDeadlineMs;
    const deadlineMs = Math.min(wantedMs, now + maxDeadlineMs);
    const given = call.header("x-request-id");
    return {
      principal: anybody,
      method: name,
      callerRequestId: "",
      trace,
      requestId: given && /^[!-~]{1,128}$/.test(given) ? given : randomUUID(),
      deadlineMs,
      yieldPermit: (wait) => call.permit.yield(wait),
    };
  }

  private failureOf(error: unknown, method: ServedMethod, { requestId }: CallContext): Failure {
    const refusal = refusalIn(error);
    if (refusal) return failureOf(refusal);
    this.options.log.error({ err: error, rpc: method.name, requestId }, "call failed");
    return internalFailure(requestId);
  }

  private async serve(mounted: Mounted, call: IncomingCall, context: OpenContext): Promise<unknown | Refusal> {
    const { method, handler } = mounted;
    let atWork = false;
    let begun: Begun | undefined;
    const end = (isSample: boolean) => {
      call.permit.end(isSample);
      begun?.end();
    };
    try {
      if (!call.permit.begin()) return new Refusal("OVERLOADED");
      if (steadyMs() >= context.deadlineMs) return new Refusal("DEADLINE_EXCEEDED");
      if (!this.options.isServing()) return new Refusal("STORE_UNAVAILABLE");
      const known = this.options.authenticator.authenticate(call);
      const principal = known instanceof Promise ? await known : known;
      if (principal instanceof Refusal) return principal;
      context.principal = principal;
      const closed = mounted.authorization.mayCall(principal);
      if (closed) return closed;
      const allowed = this.options.rates?.begin(principal, mounted.authorization.kind);
      if (allowed instanceof Refusal) return allowed;
      begun = allowed;
      const read = this.read(mounted, call);
      const request = read instanceof Promise ? await read : read;
      if (request instanceof Refusal) return request;
      const foreign = mounted.authorization.mayAsk(principal, request);
      if (foreign) return foreign;
      context.callerRequestId = mounted.authorization.claimRequestId(principal, request);
      context.request = request;
      if (call.signal) context.stream = streamOf(call, call.signal, principal, this.options.authenticator, mounted);
      const hasWaited = known instanceof Promise || read instanceof Promise;
      if (hasWaited && steadyMs() >= context.deadlineMs) return new Refusal("DEADLINE_EXCEEDED");
      const work = handler(request as never, context);
      atWork = true;
      return await this.waits.beforeDeadline(work, context.deadlineMs, () => end(isOrdinary(method)));
    } finally {
      if (!atWork) end(false);
    }
  }

  private read(mounted: Mounted, call: IncomingCall): MaybePromise<unknown | Refusal> {
    const request = call.decode();
    return request instanceof Promise ? request.then((one) => this.check(mounted, one)) : this.check(mounted, request);
  }

  private check({ method, alsoWrong }: Mounted, request: unknown | Refusal): unknown | Refusal {
    const { validator } = this.options;
    const misread = request instanceof Misread ? request.violations : [];
    const readable = request instanceof Misread ? request.rest : request;
    if (readable === undefined || readable instanceof Refusal) return request;
    const violations = violationsIn(validator, method.input, readable as never);
    if (violations.length + misread.length === 0) return request;
    return invalid(...andAlso(andAlso(misread, violations), alsoWrong(readable as never)));
  }
}

/** Who calls, and for what, is found out on the way. */
export type OpenContext = { -readonly [K in keyof CallContext]: CallContext[K] } & {
  request?: unknown;
  stream?: StreamContext["stream"];
};

interface Mounted {
  readonly method: ServedMethod;
  readonly authorization: Authorization;
  readonly report: CallReport;
  readonly handler: Handler;
  readonly alsoWrong: AlsoWrong;
  readonly onRefused: ReturnType<typeof refusalsOf>;
}

/** Whoever has found them, wrong fields are told in the same order. */
function ordered({ input }: ServedMethod, refusal: Refusal): Refusal {
  const { reason, violations, message, detail } = refusal;
  return violations.length < 2 ? refusal : new Refusal(reason, inOrder(input, violations), message, detail);
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
