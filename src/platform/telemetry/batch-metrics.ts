import type { Registry } from "prom-client";
import { HistogramTally } from "./histogram-tally.js";

const sizeBuckets = [1, 2, 5, 10, 25, 50, 100, 256];
const timeBucketsS = [0.0005, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5];

/** The batches in which rows are committed, by the queue that gathers them. */
export class BatchMetrics {
  private readonly sizes: HistogramTally<"queue">;
  private readonly waits: HistogramTally<"queue">;
  private readonly commits: HistogramTally<"queue">;

  constructor(registry: Registry) {
    const histogram = (name: string, help: string, buckets: readonly number[]) =>
      new HistogramTally(registry, { name, help, labelNames: ["queue"], buckets: [...buckets] });
    this.sizes = histogram("coupon_batch_size", "Rows in one batch, by the queue that gathers them.", sizeBuckets);
    this.waits = histogram(
      "coupon_batch_wait_seconds",
      "How long a row waited for its batch to begin, by queue.",
      timeBucketsS,
    );
    this.commits = histogram(
      "coupon_batch_commit_seconds",
      "How long Postgres took for a batch, by queue; with what was tried again.",
      timeBucketsS,
    );
  }

  begun(queue: string, size: number): void {
    this.sizes.observe(size, queue);
  }

  waited(queue: string, ms: number): void {
    this.waits.observe(ms / 1_000, queue);
  }

  committed(queue: string, ms: number): void {
    this.commits.observe(ms / 1_000, queue);
  }
}
