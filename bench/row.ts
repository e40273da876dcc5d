import type postgres from "postgres";
import type { Measurement } from "./generator.js";
import type { Api } from "./support/api.js";

/**
 * One line of the benchmark. To add one, write a file under `rows/` and list it in `rows/index.ts`. A row at saturation
 * named "use" becomes useRps and useRatio in the JSON; one with an arrival rate becomes an object under its name.
 */
export interface Row {
  readonly name: string;
  readonly title: string;
  /** An arrival rate for an open loop. Undefined: as fast as it goes. */
  readonly requestsPerSecond?: number;
  /** Called before each run, which lasts about `seconds`. */
  prepare(context: RowContext): Promise<RowRun>;
}

export interface RowContext {
  readonly api: Api;
  /** Address of the front end with nothing behind it. */
  readonly frontEndTarget: string;
  /** Address of grpc-js alone. */
  readonly bareTarget: string;
  readonly sql: postgres.Sql;
  /** How many calls the run may make at most: no message is to be sent twice. */
  readonly maxCalls: number;
}

export interface RowRun {
  /** Address of the server to call. Absent: the service. */
  readonly target?: string;
  /** "/coupon.v1.IssuanceService/IssueCoupon" */
  readonly method: string;
  /** Serialised requests, sent in turn. */
  readonly messages: Iterable<Uint8Array>;
  /** Throws when the calls did not do what the row claims to measure. */
  verify(measured: Measurement): Promise<void>;
}

/** Throws unless every call ended with one of these outcomes. */
export function expectOnly(measured: Measurement, ...outcomes: string[]): void {
  const seen = Object.entries({ OK: measured.ok, ...measured.refusals });
  const others = seen.filter(([outcome, count]) => count > 0 && !outcomes.includes(outcome));
  if (others.length === 0 && measured.calls > 0) return;
  const found = others.map(([outcome, count]) => `${outcome} ${count}`).join(", ");
  throw new Error(
    `Of ${measured.calls} calls some did not end with ${outcomes.join(" or ")}: ${found || "none ended"}.`,
  );
}
