import type { TracingSettings } from "./settings.js";

/** A call as it begins. Times are those of performance.now(). */
export interface TracedCall {
  /** With its service, as OpenTelemetry calls it: `coupon.v1.IssuanceService/IssueCoupon`. */
  readonly method: string;
  readonly system: string;
  readonly startedMs: number;
  header(name: string): string | undefined;
}

export type SpanAttributes = Readonly<Record<string, string | number | boolean | undefined>>;

/** Told of what a call has spent its time on, when that is over. Nothing hangs on it, so it costs nothing where there is none. */
export interface Steps {
  step(name: string, startedMs: number, endedMs: number, attributes?: SpanAttributes): void;
}

/** The span of a call. */
export interface CallSpan {
  readonly traceId: string;
  readonly spanId: string;
  /** Absent: this call is not among those that are sampled. */
  readonly steps: Steps | undefined;
  /** `isFault`: not the caller's doing. */
  end(code: string, reason: string, isFault: boolean, attributes: SpanAttributes): void;
}

export interface Tracing {
  begin(call: TracedCall): CallSpan;
  /** Sends what is left, within a bounded time. Never throws. */
  close(): Promise<void>;
}

export interface TracingParts {
  readonly settings: TracingSettings;
  readonly version: string;
  readonly failures: {
    failed(work: string, error: unknown): void;
    succeeded(work: string): void;
  };
  readonly onExported: (outcome: "OK" | "FAILED" | "DROPPED", spans: number) => void;
}

/** Loaded only here: who does not trace has neither its code in memory nor its time at the start. */
export async function openTracing(parts: TracingParts): Promise<Tracing> {
  const { OpenTelemetry } = await import("./open-telemetry.js");
  return new OpenTelemetry(parts);
}
