import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from "prom-client";

const callBucketsS = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5];
const batchBuckets = [1, 2, 5, 10, 25, 50, 100, 256];

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
  private readonly outcomes = new Counter({
    name: "coupon_calls_total",
    help: "Calls by method and outcome (OK or an ErrorReason).",
    labelNames: ["rpc", "outcome"] as const,
    registers: [this.registry],
  });
  private inFlightNow = 0;
  private readonly batches = new Histogram({
    name: "coupon_batch_size",
    help: "Rows in one batch, by the queue that gathers them.",
    labelNames: ["queue"] as const,
    buckets: batchBuckets,
    registers: [this.registry],
  });
  /** The library's way from label values to a series is slow; the few that there are are kept. */
  private readonly durations = new Map<string, Histogram.Internal<"rpc">>();
  private readonly counters = new Map<string, Counter.Internal>();

  constructor() {
    collectDefaultMetrics({ register: this.registry });
    const open: Gauge = new Gauge({
      name: "coupon_calls_in_flight",
      help: "Calls being served.",
      registers: [this.registry],
      collect: () => open.set(this.inFlightNow),
    });
  }

  observe(rpc: string, outcome: string, seconds: number): void {
    let duration = this.durations.get(rpc);
    if (!duration) {
      duration = this.calls.labels(rpc);
      this.durations.set(rpc, duration);
    }
    duration.observe(seconds);
    const name = `${rpc} ${outcome}`;
    let counter = this.counters.get(name);
    if (!counter) {
      counter = this.outcomes.labels(rpc, outcome);
      this.counters.set(name, counter);
    }
    counter.inc();
  }

  inFlight(count: number): void {
    this.inFlightNow = count;
  }

  batch(queue: string, size: number): void {
    this.batches.labels(queue).observe(size);
  }

  get contentType(): string {
    return this.registry.contentType;
  }

  text(): Promise<string> {
    return this.registry.metrics();
  }
}
