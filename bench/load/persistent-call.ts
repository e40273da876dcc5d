import { setTimeout as sleep } from "node:timers/promises";
import type { Channels } from "./channels.js";
import { type Failure, isTransient, readFailure } from "./failure.js";

/** The first wait when the server gave no RetryInfo. Each further one is twice as long, for nobody who is told to come again helps by coming often. */
const firstBackoffMs = 100;
/** The longest wait between two attempts, also when the server asks for more. */
const maxBackoffMs = 5_000;
/** Up to this share is added to each wait, so that callers who failed together do not come back together. */
const jitterShare = 0.5;

export interface Patience {
  readonly attemptTimeoutMs: number;
  readonly maxAttempts: number;
}

export interface Answer {
  readonly response: Buffer | undefined;
  /** Of the last attempt; undefined when it succeeded. */
  readonly failure: Failure | undefined;
  readonly attempts: number;
}

/** Calls as a careful client does: transient failures are repeated with the same bytes, and so the same request id. */
export async function callPersistently(
  channels: Channels,
  method: string,
  request: Buffer,
  patience: Patience,
): Promise<Answer> {
  for (let attempts = 1; ; attempts += 1) {
    const { response, failure } = await callOnce(channels, method, request, patience.attemptTimeoutMs);
    if (!failure || !isTransient(failure) || attempts >= patience.maxAttempts) return { response, failure, attempts };
    const waitMs = Math.min((failure.retryDelayMs ?? firstBackoffMs) * 2 ** (attempts - 1), maxBackoffMs);
    await sleep(waitMs * (1 + Math.random() * jitterShare));
  }
}

function callOnce(channels: Channels, method: string, request: Buffer, timeoutMs: number) {
  return new Promise<Omit<Answer, "attempts">>((resolve) => {
    channels.send(method, request, timeoutMs, (error, response) => {
      resolve(error ? { response: undefined, failure: readFailure(error) } : { response, failure: undefined });
    });
  });
}
