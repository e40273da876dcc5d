import type { ObservedCall } from "../platform/metrics.js";
import type { CallSpan, Tracing } from "../platform/telemetry/tracing.js";
import { type NameUser, plainUser } from "../platform/telemetry/user-ids.js";
import { Code, codeNames, type Failure } from "./error-table.js";
import type { IncomingCall, OpenContext } from "./pipeline.js";
import type { ServedMethod } from "./routes.js";

export interface CallLog {
  info(details: object, message: string): void;
  error(details: object, message: string): void;
  /** Absent: all of it is written. */
  isLevelEnabled?(level: string): boolean;
}

export interface CallMetrics {
  observe(call: ObservedCall): void;
}

export interface ReportOptions {
  readonly log: CallLog;
  readonly metrics: CallMetrics;
  /** Absent: no call is traced. */
  readonly tracing?: Tracing | undefined;
  /** How users are called in the log. Absent: by their ids. */
  readonly nameUser?: NameUser;
}

interface BegunCall {
  readonly call: IncomingCall;
  readonly startedMs: number;
  readonly span: CallSpan | undefined;
}

interface EndedCall {
  readonly context: OpenContext;
  /** Absent: it was answered. */
  readonly failure: Failure | undefined;
  /** What the store has said, where the caller was told in one word. */
  readonly storeCode: string | undefined;
}

/** As OpenTelemetry calls them; it has no name for REST. */
const systems = { grpc: "grpc", connect: "connectrpc", rest: "http" } as const;
/** What the server is to blame for, as OpenTelemetry sees it. */
const faults: ReadonlySet<Code> = new Set([Code.deadlineExceeded, Code.internal, Code.unavailable]);

/** Puts each call of a method into the metrics, the trace and the log. */
export class CallReport {
  private readonly names: Pick<ObservedCall, "rpc" | "method">;
  private readonly couponOf: ReadText;
  private readonly userOf: ReadText;

  constructor(
    method: ServedMethod,
    private readonly options: ReportOptions,
  ) {
    this.names = { rpc: method.name, method: `${method.parent.typeName}/${method.name}` };
    this.couponOf = readerOf(method, "coupon_id");
    this.userOf = readerOf(method, "user_id");
  }

  begin(call: IncomingCall): BegunCall {
    const startedMs = performance.now();
    const { tracing } = this.options;
    const span = tracing?.begin({
      ...{ method: this.names.method, system: systems[call.frontEnd], startedMs },
      header: (name) => call.header(name),
    });
    return { call, startedMs, span };
  }

  end({ call, startedMs, span }: BegunCall, { context, failure, storeCode }: EndedCall): void {
    const { log, metrics, nameUser = plainUser } = this.options;
    const ms = performance.now() - startedMs;
    const reason = failure?.reason ?? "OK";
    const code = failure ? (codeNames.get(failure.code) as string) : "OK";
    const traceId = span?.steps && span.traceId;
    metrics.observe({ system: systems[call.frontEnd], code, reason, seconds: ms / 1_000, traceId, ...this.names });
    const { requestId, principal, request } = context;
    const coupon = this.couponOf(request);
    span?.end(code, reason, failure !== undefined && faults.has(failure.code), {
      "coupon.id": coupon,
      "coupon.request_id": requestId,
    });
    if (log.isLevelEnabled?.("info") === false) return;
    const user = this.userOf(request);
    // A user's own token has the user's id in its name.
    const caller = principal.userId === undefined ? principal.id : nameUser(principal.id);
    log.info(
      {
        rpc: this.names.rpc,
        requestId,
        ...(caller !== "" && { principal: caller }),
        ...(coupon !== undefined && { coupon }),
        ...(user !== undefined && { user: nameUser(user) }),
        status: reason,
        ms: Math.round(ms * 10) / 10,
        via: call.frontEnd,
        // Of what the caller is told in one word, operators want to know what the store has said.
        ...(storeCode !== undefined && { code: storeCode }),
        ...(span && { trace_id: span.traceId, span_id: span.spanId }),
      },
      "call",
    );
  }
}

type ReadText = (request: unknown) => string | undefined;

/** Reads a field of a request that has been checked, if its method has such a field and the request names it. */
function readerOf({ input }: ServedMethod, name: string): ReadText {
  const field = input.fields.find((one) => one.name === name && one.fieldKind === "scalar");
  if (!field) return () => undefined;
  const { localName, oneof } = field;
  const read = (request: Record<string, unknown>) => {
    if (!oneof) return request[localName];
    const chosen = request[oneof.localName] as { case?: string; value?: unknown };
    return chosen.case === localName ? chosen.value : undefined;
  };
  return (request) => (request === undefined ? undefined : (read(request as never) as string) || undefined);
}
