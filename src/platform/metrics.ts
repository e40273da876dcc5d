import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from "prom-client";
import { Tally } from "./tally.js";

const callBucketsS = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5];
const waitBucketsS = [0.0005, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5];
const batchBuckets = [1, 2, 5, 10, 25, 50, 100, 256];

interface OverloadGauges {
  readonly limit: number;
  readonly atWork: number;
  readonly waiting: number;
  readonly maxConnections: number;
}

const overloadGauges: readonly { name: string; help: string; of: (state: OverloadGauges) => number }[] = [
  { name: "coupon_calls_in_flight", help: "Calls at work.", of: ({ atWork }) => atWork },
  {
    name: "coupon_calls_limit",
    help: "Calls that may be at work; found from what they take.",
    of: ({ limit }) => limit,
  },
  { name: "coupon_calls_waiting", help: "Calls that wait until fewer are at work.", of: ({ waiting }) => waiting },
  {
    name: "coupon_connections_limit",
    help: "Connections that the gRPC port takes at most; fewer while connections are shed.",
    of: ({ maxConnections }) => maxConnections,
  },
];

interface PoolFacts {
  readonly name: string;
  readonly size: number;
  readonly atWork: number;
  readonly waiting: number;
}

/** Everything that `/metrics` shows, in the Prometheus text format. */
export class Metrics {
  private readonly registry = new Registry();
  private readonly calls = new Histogram({
    name: "coupon_call_duration_seconds",
    help: "Duration of calls by method.",
    labelNames: ["rpc"] as const,
    buckets: callBucketsS,
    registers: [this.registry],
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
  private readonly shedConnectionsTotal = new Counter({
    name: "coupon_connections_shed_total",
    help: "Connections asked to go because shedding calls one by one took too much time.",
    registers: [this.registry],
  });
  private readonly batches = new Histogram({
    name: "coupon_batch_size",
    help: "Rows in one batch, by the queue that gathers them.",
    labelNames: ["queue"] as const,
    buckets: batchBuckets,
    registers: [this.registry],
  });
  private readonly poolWaits = new Histogram({
    name: "coupon_pool_wait_seconds",
    help: "How long statements and transactions waited for a connection to Postgres, by pool.",
    labelNames: ["pool"] as const,
    buckets: waitBucketsS,
    registers: [this.registry],
  });
  private readonly poolErrors = new Counter({
    name: "coupon_postgres_errors_total",
    help: "Errors of statements by SQLSTATE, or by the code of the driver or the network; counted when they are reported.",
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
  /** The library's way from label values to a series is slow; the few that there are are kept. */
  private readonly durations = new Map<string, Histogram.Internal<"rpc">>();
  private readonly waits = new Map<string, Histogram.Internal<"pool">>();

  constructor() {
    collectDefaultMetrics({ register: this.registry });
  }

  /** What the overload protection allows and what there is, looked up when the metrics are. */
  watchOverload(state: () => OverloadGauges): void {
    for (const { name, help, of } of overloadGauges) {
      const gauge: Gauge = new Gauge({
        name,
        help,
        registers: [this.registry],
        collect: () => gauge.set(of(state())),
      });
    }
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

  shedConnections(count: number): void {
    this.shedConnectionsTotal.inc(count);
  }

  observe(rpc: string, outcome: string, seconds: number): void {
    let duration = this.durations.get(rpc);
    if (!duration) {
      duration = this.calls.labels(rpc);
      this.durations.set(rpc, duration);
    }
    duration.observe(seconds);
    this.outcomes.add(rpc, outcome);
  }

  batch(queue: string, size: number): void {
    this.batches.labels(queue).observe(size);
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
    const gauge: Gauge = new Gauge({
      name: "coupon_clock_offset_seconds",
      help: "How far this machine's clock is ahead of Postgres'; below 0: behind.",
      registers: [this.registry],
      collect: () => gauge.set(aheadS()),
    });
  }

  eventsSent(count: number): void {
    this.sentEvents.inc(count);
  }

  /** Shows them whenever it is asked. */
  watchers(count: () => number): void {
    const gauge: Gauge = new Gauge({
      name: "coupon_watchers",
      help: "Streams of events that are open.",
      registers: [this.registry],
      collect: () => gauge.set(count()),
    });
  }

  poolWait(pool: string, seconds: number): void {
    let wait = this.waits.get(pool);
    if (!wait) {
      wait = this.poolWaits.labels(pool);
      this.waits.set(pool, wait);
    }
    wait.observe(seconds);
  }

  storeErrors(code: string, count: number): void {
    this.poolErrors.labels(code).inc(count);
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

  probeFailed(outcome: string): void {
    this.probeFailures.labels(outcome).inc();
  }

  primaryMoved(): void {
    this.moves.inc();
  }

  get contentType(): string {
    return this.registry.contentType;
  }

  text(): Promise<string> {
    return this.registry.metrics();
  }
}
