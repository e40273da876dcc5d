import type { LatencySummary } from "./latency.js";

/** What the load process is told to do. */
export interface LoadJob {
  readonly targets: readonly string[];
  readonly connectionsPerTarget: number;
  /** "/coupon.v1.IssuanceService/IssueCoupon" */
  readonly method: string;
  /** Requests in the format of `messages-file.ts`, taken in turn and from the beginning again after the last. */
  readonly messagesFile: string;
  readonly timeoutMs: number;
  /** Of each call. */
  readonly headers?: Readonly<Record<string, string>>;
  readonly mode: OpenLoop | Saturation;
}

/** A fixed arrival rate, whatever the answers take. Latency counts from the scheduled time. */
export interface OpenLoop {
  readonly kind: "openLoop";
  readonly requestsPerSecond: number;
  /** Sent at the same rate but not measured. */
  readonly warmUpRequests: number;
  /** Measured. */
  readonly requests: number;
}

/** Each caller sends its next request when the answer to the one before has come. */
export interface Saturation {
  readonly kind: "saturation";
  readonly callers: number;
  /** Sent but not measured. */
  readonly warmUpMs: number;
  readonly measuredMs: number;
}

/** What it found out. */
export interface LoadResult extends LatencySummary {
  /** Calls that were measured. */
  readonly calls: number;
  /** Every call that was sent, warm-up and stragglers too. */
  readonly sent: number;
  readonly callsPerSecond: number;
  /** By "OK", "REPLAYED" or the reason of the refusal; of the measured calls. */
  readonly outcomes: Record<string, number>;
}
