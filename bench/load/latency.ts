import { build } from "hdr-histogram-js";

/** Longer latencies count as this long: every call has a deadline far below it. */
const highestTrackableMs = 600_000;

export interface LatencySummary {
  readonly p50Ms: number;
  readonly p99Ms: number;
  readonly maxMs: number;
}

/** Latencies to three significant digits in a few hundred kilobytes, however many there are. */
export class Latencies {
  readonly #histogram = build({
    autoResize: false,
    highestTrackableValue: highestTrackableMs * 1_000,
    numberOfSignificantValueDigits: 3,
  });

  record(latencyMs: number): void {
    const clampedMs = Math.min(Math.max(latencyMs, 0), highestTrackableMs);
    this.#histogram.recordValue(Math.round(clampedMs * 1_000));
  }

  summary(): LatencySummary {
    return {
      p50Ms: toMs(this.#histogram.getValueAtPercentile(50)),
      p99Ms: toMs(this.#histogram.getValueAtPercentile(99)),
      maxMs: toMs(this.#histogram.maxValue),
    };
  }
}

function toMs(microseconds: number): number {
  return Math.round(microseconds / 10) / 100;
}
