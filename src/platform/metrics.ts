import { Counter, collectDefaultMetrics, Gauge, Registry } from "prom-client";
import { Tally } from "./tally.js";
import { BatchMetrics } from "./telemetry/batch-metrics.js";
import { GateMetrics } from "./telemetry/gate-metrics.js";
import { HistogramTally } from "./telemetry/histogram-tally.js";
import { pagesOf, wantsOpenMetrics } from "./telemetry/open-metrics.js";
import { type OverloadFacts, showOverload } from "./telemetry/overload-gauges.js";

const callBucketsS = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5];
const waitBucketsS = [0.0005, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5];

interface PoolFacts {
  readonly name: string;
  readonly size: number;
  readonly atWork: number;
  readonly waiting: number;
}

/** A call that has been answered. */
export interface ObservedCall {
  /** Without its service, and with it. */
  readonly rpc: string;
  readonly method: string;
  /** What it was asked by, as OpenTelemetry calls it: `grpc`, `connectrpc`, or `http` for REST. */
  readonly system: string;
  /** The status code, as gRPC calls it. */
  readonly code: string;
  /** "OK" or an ErrorReason. */
  readonly reason: string;
  readonly seconds: number;
  /** Absent: it is not among those that are sampled. */
  readonly traceId?: string | undefined;
}

/** Everything that `/metrics` shows. */
export class Metrics {
  readonly registry = new Registry();
  private readonly pages = pagesOf(this.registry);
  readonly gate = new GateMetrics(this.registry);
  readonly batches = new BatchMetrics(this.registry);
  private readonly calls = new HistogramTally(this.registry, {
    name: "rpc_server_call_duration_seconds",
    help: "Duration of calls by method, status code and outcome (OK or an ErrorReason). What was shed is no call yet.",
    labelNames: ["rpc_system_name", "rpc_method", "rpc_response_status_code", "coupon_reason"],
    buckets: [...callBucketsS, 10, 30],
  });
  private readonly durations = new HistogramTally(this.registry, {
    name: "coupon_call_duration_seconds",
    help: "Duration of calls by method, whatever became of them; rpc_server_call_duration_seconds tells more.",
    labelNames: ["rpc"],
    buckets: callBucketsS,
  });
  private readonly outcomes = new Tally(this.registry, {
    name: "coupon_calls_total",
    help: "Calls by method and outcome (OK or an ErrorReason).",
    labelNames: ["rpc", "outcome"],
  });
  private readonly authFailures = new Tally(this.registry, {
    name: "coupon_auth_failures_total",
    help: "Calls refused because who calls is not known, by the way in which they say it and by what was wrong.",
    labelNames: ["way", "why"],
  });
  private readonly shedCalls = new Tally(this.registry, {
    name: "coupon_calls_shed_total",
    help: "Calls shed because too many are at work, by kind; they are counted as OVERLOADED, too.",
    labelNames: ["kind"],
  });
  private readonly limitedCalls = new Tally(this.registry, {
    name: "coupon_calls_limited_total",
    help: "Calls refused because their caller made too many, by kind and limit (rate, at_once or wrong_codes); they are counted as RATE_LIMITED, too.",
    labelNames: ["kind", "limit"],
  });
  private readonly foreignPages = new Tally(this.registry, {
    name: "coupon_foreign_pages_total",
    help: "Requests refused because of the page that they came from, by what was not the service's own (origin or host). They are no calls yet.",
    labelNames: ["why"],
  });
  private readonly shedConnectionsTotal = new Counter({
    name: "coupon_connections_shed_total",
    help: "Connections asked to go because shedding calls one by one took too much time.",
    registers: [this.registry],
  });
  private readonly poolWaits = new HistogramTally(this.registry, {
    name: "coupon_pool_wait_seconds",
    help: "How long statements and transactions waited for a connection to Postgres, by pool.",
    labelNames: ["pool"],
    buckets: waitBucketsS,
  });
  private readonly poolErrors = new Counter({
    name: "coupon_postgres_errors_total",
    help: "Errors of statements by SQLSTATE, or by the code of the driver or the network.",
    labelNames: ["code"] as const,
    registers: [this.registry],
  });
  private readonly probeFailures = new Counter({
    name: "coupon_ping_failures_total",
    help: "Probes of Postgres without an answer (REFUSED: nobody listens; FAILED: silence or an error).",
    labelNames: ["look"] as const,
    registers: [this.registry],
  });
  private readonly moves = new Counter({
    name: "coupon_postgres_moves_total",
    help: "How often another server, or one that was promoted, was found to be the primary.",
    registers: [this.registry],
  });
  private readonly sentEvents = new Counter({
    name: "coupon_events_sent_total",
    help: "Events that were sent to those who watch them.",
    registers: [this.registry],
  });
  private readonly auditDrops = new Counter({
    name: "coupon_audit_dropped_total",
    help: "Refused administrative calls that could not be put on record.",
    registers: [this.registry],
  });
  private readonly spans = new Counter({
    name: "coupon_trace_spans_total",
    help: "Spans of sampled calls: OK, sent; FAILED, given up by the exporter; DROPPED, no room until they could be sent.",
    labelNames: ["outcome"] as const,
    registers: [this.registry],
  });
  private readonly jobRuns = new Counter({
    name: "coupon_job_runs_total",
    help: "Runs of what the service does by itself, by job and outcome (OK or FAILED).",
    labelNames: ["job", "outcome"] as const,
    registers: [this.registry],
  });
  private readonly jobSuccesses = new Gauge({
    name: "coupon_job_last_success_timestamp_seconds",
    help: "When a job last succeeded, in seconds since 1970; 0: not since the start.",
    labelNames: ["job"] as const,
    registers: [this.registry],
  });
  private readonly handshakeFailures = new Counter({
    name: "coupon_tls_handshake_failures_total",
    help: "Connections that have not come as far as TLS: SLOW, PLAIN_TEXT, CERTIFICATE (of the client), CLOSED or FAILED.",
    labelNames: ["why"] as const,
    registers: [this.registry],
  });
  private readonly certificateEnds = new Gauge({
    name: "coupon_certificate_not_after_timestamp_seconds",
    help: "When the first certificate of a file ends, in seconds since 1970, by the setting that names the file.",
    labelNames: ["file"] as const,
    registers: [this.registry],
  });

  private hasTraces = false;

  /** Which build this is. */
  constructor(version = "") {
    collectDefaultMetrics({ register: this.registry });
    new Gauge({
      name: "coupon_build_info",
      help: "Always 1: which release this is, and on which Node it runs.",
      labelNames: ["version", "node"],
      registers: [this.registry],
    }).set({ version, node: process.version }, 1);
  }

  /** Of this one it is counted how often it ends with a fault, from none on: a few are an alert. */
  serves(rpc: string): void {
    this.outcomes.begin(rpc, "INTERNAL");
  }

  /** What the overload protection allows and what there is, looked up when the metrics are. */
  watchOverload(state: () => OverloadFacts): void {
    showOverload(this.registry, state);
  }

  /** A call that was shed before it was one. */
  shedCall(rpc: string, kind: string): void {
    this.outcomes.add(rpc, "OVERLOADED");
    this.shedCalls.add(kind);
  }

  /** A call that was refused before it was one, for a reason that has no counter of its own. */
  refusedCall(rpc: string, reason: string): void {
    this.outcomes.add(rpc, reason);
  }

  /** A call of somebody unknown; it is counted as UNAUTHENTICATED, too. */
  authFailed(way: string, why: string): void {
    this.authFailures.add(way, why);
  }

  /** A call of somebody who has made too many. */
  limitedCall(kind: string, limit: string): void {
    this.limitedCalls.add(kind, limit);
  }

  /** A request of a page of others, refused before it was known what it asks for. */
  foreignPage(why: string): void {
    this.foreignPages.add(why);
  }

  shedConnections(count: number): void {
    this.shedConnectionsTotal.inc(count);
  }

  observe({ rpc, method, system, code, reason, seconds, traceId }: ObservedCall): void {
    this.calls.observe(seconds, system, method, code, reason);
    if (traceId !== undefined) this.calls.exemplify(traceId, seconds, system, method, code, reason);
    this.durations.observe(seconds, rpc);
    this.outcomes.add(rpc, reason);
  }

  /** Shows them whenever it is asked. */
  pools(pools: readonly PoolFacts[]): void {
    const show = (name: string, help: string, of: (pool: PoolFacts) => number) => {
      const gauge: Gauge<"pool"> = new Gauge({
        name,
        help,
        labelNames: ["pool"],
        registers: [this.registry],
        collect: () => {
          for (const pool of pools) gauge.set({ pool: pool.name }, of(pool));
        },
      });
    };
    show("coupon_pool_size", "Connections to Postgres at most, by pool.", ({ size }) => size);
    show("coupon_pool_at_work", "Connections to Postgres at work, by pool.", ({ atWork }) => atWork);
    show("coupon_pool_waiting", "What waits for a connection to Postgres, by pool.", ({ waiting }) => waiting);
  }

  /** Shows it whenever it is asked. */
  clock(aheadS: () => number): void {
    const help = "How far this machine's clock is ahead of Postgres'; below 0: behind.";
    this.show("coupon_clock_offset_seconds", help, aheadS);
  }

  eventsSent(count: number): void {
    this.sentEvents.inc(count);
  }

  /** Shows them whenever it is asked. */
  watchers(count: () => number): void {
    this.show("coupon_watchers", "Streams of events that are open.", count);
  }

  poolWait(pool: string, seconds: number): void {
    this.poolWaits.observe(seconds, pool);
  }

  storeFailed(code: string): void {
    this.poolErrors.labels(code).inc();
  }

  handshakeFailed(why: string): void {
    this.handshakeFailures.labels(why).inc();
  }

  certificateEndsAt(file: string, endMs: number): void {
    this.certificateEnds.set({ file }, endMs / 1_000);
  }

  /** A job that is going to run: its counters are there before it has. */
  jobPlanned(job: string): void {
    for (const outcome of ["OK", "FAILED"]) this.jobRuns.inc({ job, outcome }, 0);
    this.jobSuccesses.set({ job }, 0);
  }

  jobRan(job: string, outcome: "OK" | "FAILED"): void {
    this.jobRuns.inc({ job, outcome });
    if (outcome === "OK") this.jobSuccesses.set({ job }, Date.now() / 1_000);
  }

  auditDropped(count: number): void {
    this.auditDrops.inc(count);
  }

  spansExported(outcome: "OK" | "FAILED" | "DROPPED", count: number): void {
    this.spans.inc({ outcome }, count);
  }

  probeFailed(outcome: string): void {
    this.probeFailures.labels(outcome).inc();
  }

  primaryMoved(): void {
    this.moves.inc();
  }

  /** From now on who asks for OpenMetrics gets it: only there can traces be named. */
  showTraces(): void {
    this.hasTraces = true;
  }

  /** `accept`: the header of whoever asks. Prometheus' own text format, unless there is a reason for another one. */
  page(accept: string | undefined): Promise<{ contentType: string; text: string }> {
    return this.pages.read(this.hasTraces && wantsOpenMetrics(accept));
  }

  private show(name: string, help: string, read: () => number): void {
    const gauge: Gauge = new Gauge({ name, help, registers: [this.registry], collect: () => gauge.set(read()) });
  }
}
