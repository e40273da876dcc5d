import {
  type Context,
  DiagLogLevel,
  diag,
  ROOT_CONTEXT,
  type Span,
  SpanKind,
  SpanStatusCode,
  type Tracer,
  trace,
} from "@opentelemetry/api";
import { ExportResultCode, setGlobalErrorHandler, W3CTraceContextPropagator } from "@opentelemetry/core";
import { OTLPTraceExporter } from "@opentelemetry/exporter-trace-otlp-proto";
import { resourceFromAttributes } from "@opentelemetry/resources";
import {
  AlwaysOffSampler,
  AlwaysOnSampler,
  BatchSpanProcessor,
  ConsoleSpanExporter,
  NodeTracerProvider,
  ParentBasedSampler,
  type ReadableSpan,
  type Sampler,
  type SpanExporter,
  TraceIdRatioBasedSampler,
} from "@opentelemetry/sdk-trace-node";
import { within } from "../within.js";
import type { TracingSettings } from "./settings.js";
import type { CallSpan, SpanAttributes, Steps, TracedCall, Tracing, TracingParts } from "./tracing.js";

/** Spans that are sent at once at most, and how long that may take before they are given up. */
const maxSent = 512;
const sendTimeoutMs = 10_000;
/** At the end of the process, for all that is left. */
const closeTimeoutMs = 3_000;

const work = "export traces";
const headers = { get: (call: TracedCall, name: string) => call.header(name), keys: () => [] };

/** Traces by the SDK of OpenTelemetry. Contexts are handed on by hand, so nothing has to be followed through promises. */
export class OpenTelemetry implements Tracing {
  private readonly propagator = new W3CTraceContextPropagator();
  private readonly provider: NodeTracerProvider;
  private readonly tracer: Tracer;

  constructor({ settings, version, failures, onExported }: TracingParts) {
    const exporter = new WatchedExporter(exporterOf(settings), (error, count) => {
      onExported(error ? "FAILED" : "OK", count);
      if (error) failures.failed(work, error);
      else failures.succeeded(work);
    });
    // Those that have no room are told of here, and nowhere else.
    const dropped = (message: string) => {
      const [, count] = /Dropped (\d+) spans/.exec(message) ?? [];
      if (count === undefined) return;
      onExported("DROPPED", Number(count));
      failures.failed("keep traces until they are sent", new Error("more spans than OTEL_BSP_MAX_QUEUE_SIZE"));
    };
    const ignore = () => {};
    diag.setLogger({ error: ignore, warn: dropped, info: ignore, debug: ignore, verbose: ignore }, DiagLogLevel.WARN);
    setGlobalErrorHandler((error) => failures.failed(work, error));
    this.provider = new NodeTracerProvider({
      resource: resourceFromAttributes({
        ...settings.attributes,
        "service.name": settings.serviceName,
        "service.version": version,
      }),
      sampler: samplerOf(settings),
      spanProcessors: [
        new BatchSpanProcessor(exporter, {
          maxQueueSize: settings.maxQueue,
          maxExportBatchSize: Math.min(maxSent, settings.maxQueue),
          scheduledDelayMillis: settings.delayMs,
          exportTimeoutMillis: sendTimeoutMs,
        }),
      ],
    });
    this.tracer = this.provider.getTracer("coupon-service", version);
  }

  begin(call: TracedCall): CallSpan {
    const parent = this.propagator.extract(ROOT_CONTEXT, call, headers);
    // The same for all spans of a call: the SDK finds one out for each of them, to a millisecond, and steps would seem to begin before their call.
    const epochMs = Date.now() - performance.now();
    const options = { kind: SpanKind.SERVER, startTime: call.startedMs + epochMs };
    return new ServerSpan(this.tracer, parent, this.tracer.startSpan(call.method, options, parent), call, epochMs);
  }

  async close(): Promise<void> {
    await within(this.provider.shutdown(), closeTimeoutMs, () => {}).catch(() => {});
  }
}

class ServerSpan implements CallSpan, Steps {
  readonly traceId: string;
  readonly spanId: string;
  readonly steps: Steps | undefined;

  constructor(
    private readonly tracer: Tracer,
    private readonly parent: Context,
    private readonly span: Span,
    { method, system }: TracedCall,
    private readonly epochMs: number,
  ) {
    const { traceId, spanId } = span.spanContext();
    this.traceId = traceId;
    this.spanId = spanId;
    this.steps = span.isRecording() ? this : undefined;
    if (this.steps) span.setAttributes({ "rpc.system.name": system, "rpc.method": method });
  }

  step(name: string, startedMs: number, endedMs: number, attributes: SpanAttributes = {}): void {
    const context = trace.setSpan(this.parent, this.span);
    const kind = attributes["db.system.name"] === undefined ? SpanKind.INTERNAL : SpanKind.CLIENT;
    const { epochMs } = this;
    this.tracer.startSpan(name, { kind, startTime: startedMs + epochMs, attributes }, context).end(endedMs + epochMs);
  }

  end(code: string, reason: string, isFault: boolean, attributes: SpanAttributes): void {
    if (!this.steps) return;
    this.span.setAttributes({ ...attributes, "rpc.response.status_code": code, "coupon.reason": reason } as never);
    if (isFault) {
      this.span.setAttribute("error.type", reason);
      this.span.setStatus({ code: SpanStatusCode.ERROR });
    }
    this.span.end(performance.now() + this.epochMs);
  }
}

/** Tells what became of each batch of spans. */
class WatchedExporter implements SpanExporter {
  constructor(
    private readonly inner: SpanExporter,
    private readonly onDone: (error: Error | undefined, spans: number) => void,
  ) {}

  export(spans: ReadableSpan[], done: Parameters<SpanExporter["export"]>[1]): void {
    this.inner.export(spans, (result) => {
      const isSent = result.code === ExportResultCode.SUCCESS;
      this.onDone(isSent ? undefined : (result.error ?? new Error("spans could not be sent")), spans.length);
      done(result);
    });
  }

  shutdown(): Promise<void> {
    return this.inner.shutdown();
  }
}

function exporterOf({ exporter, url, headers }: TracingSettings): SpanExporter {
  if (exporter === "console") return new ConsoleSpanExporter();
  return new OTLPTraceExporter({ url, headers: { ...headers }, timeoutMillis: sendTimeoutMs });
}

function samplerOf({ sampler, ratio }: TracingSettings): Sampler {
  const root = sampler.endsWith("always_on")
    ? new AlwaysOnSampler()
    : sampler.endsWith("always_off")
      ? new AlwaysOffSampler()
      : new TraceIdRatioBasedSampler(ratio);
  return sampler.startsWith("parentbased_") ? new ParentBasedSampler({ root }) : root;
}
