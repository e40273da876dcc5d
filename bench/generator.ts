import type { LatencySummary } from "./load/latency.js";

export interface Load {
  /** "127.0.0.1:50051" */
  readonly target: string;
  /** "/coupon.v1.IssuanceService/IssueCoupon" */
  readonly method: string;
  /** In the format of `load/messages-file.ts`. */
  readonly messagesFile: string;
  readonly seconds: number;
  /** Of each call. */
  readonly headers?: Readonly<Record<string, string>>;
  /** An arrival rate for an open loop. Undefined: saturation by a fixed number of callers. */
  readonly requestsPerSecond: number | undefined;
}

export interface Measurement extends LatencySummary {
  readonly calls: number;
  /** Every call that was sent, warm-up and stragglers too. */
  readonly sent: number;
  readonly callsPerSecond: number;
  /** How many calls ended with status OK. */
  readonly ok: number;
  /** The others, by whatever the generator can tell of them: a reason, or the name of the status code. */
  readonly refusals: Readonly<Record<string, number>>;
}

export interface Generator {
  readonly name: "own" | "ghz";
  run(load: Load, signal: AbortSignal): Promise<Measurement>;
}

/** The same for both generators and all rows, so that ratios compare like with like. */
export const saturationCallers = 128;
export const connections = 4;
export const callTimeoutMs = 10_000;
