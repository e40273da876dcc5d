import type { Interceptor } from "@connectrpc/connect";
import { type Credentials, proving } from "./credentials.js";
import { tellRefusals } from "./refusal.js";
import { nameRequests } from "./request-id.js";
import { type RetryOptions, retrying } from "./retry.js";

/** What all clients take. */
export interface ClientOptions {
  /** Where the service is: `https://coupons.example`, with a path where a proxy has put it below one. */
  readonly baseUrl: string;
  /** Absent: the service asks nobody. */
  readonly credentials?: Credentials;
  /** How long a call may take with all its tries, in milliseconds, unless the call says otherwise (`timeoutMs`). Default: 5,000. */
  readonly timeoutMs?: number;
  /** False: a call is tried once. */
  readonly retries?: RetryOptions | false;
  /** Your own ones, around all others: they see a call once, however often it is tried. */
  readonly interceptors?: readonly Interceptor[];
}

const defaultTimeoutMs = 5_000;
/** Longer ones are cut by the service. */
const maxTimeoutMs = 600_000;

/** Checks the options, and answers what every transport is made of. */
export function transportOptions(options: ClientOptions) {
  const { baseUrl, credentials, timeoutMs = defaultTimeoutMs, retries = {}, interceptors = [] } = options;
  const url = URL.canParse(baseUrl) ? new URL(baseUrl) : undefined;
  if (!url || !/^https?:$/.test(url.protocol)) throw new TypeError("baseUrl must begin with http:// or https://");
  if (url.username || url.password) throw new TypeError("baseUrl must not have a user or a password: see credentials");
  whole("timeoutMs", timeoutMs, maxTimeoutMs);
  if (retries) {
    whole("retries.attempts", retries.attempts, 10);
    whole("retries.budget", retries.budget, 1_000);
    whole("retries.attemptTimeoutMs", retries.attemptTimeoutMs, maxTimeoutMs);
  }
  const life = { isOver: false };
  return {
    /** For who closes the client: calls that this cuts off are not tried again. */
    life,
    baseUrl,
    defaultTimeoutMs: timeoutMs,
    // The first is around all others.
    interceptors: [
      ...interceptors,
      tellRefusals,
      nameRequests,
      ...(retries ? [retrying(retries, life)] : []),
      ...(credentials ? [proving(credentials)] : []),
    ],
  };
}

function whole(name: string, value: number | undefined, max: number): void {
  if (value === undefined || (Number.isInteger(value) && value >= 1 && value <= max)) return;
  throw new RangeError(`${name} must be a whole number from 1 to ${max}`);
}
