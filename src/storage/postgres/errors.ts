import { DeadlinePassed, StoreUnavailable } from "../../domain/refusal.js";
import { steadyMs } from "../../platform/clock.js";
import { errorCode } from "../../platform/error-code.js";
import { within } from "../../platform/within.js";
import type { DeadlineMs } from "../ports/page.js";

/** Postgres itself gives up on a statement after this long, also when nobody waits for it any more. */
export const statementTimeoutMs = 5_000;
/** Of the few statements that may take longer: those of an upload. */
export const longStatementTimeoutMs = 20_000;
/** A session that asks nothing for this long in the middle of a transaction is ended by Postgres. */
export const idleInTransactionTimeoutMs = statementTimeoutMs;
export const lockTimeoutMs = 2_000;
/** How long a caller waits for Postgres: a little longer, so that usually the server's own answer comes first. */
export const queryTimeoutMs = statementTimeoutMs + 500;

const cannotConnectNow = "57P03";
/** Nothing can be written there: it is a standby, or somebody has set it so. */
const readOnly = "25006";

/** No server can be written to, or the one that was asked must not be. */
export class NotPrimary extends Error {
  override readonly name = "NotPrimary";
  readonly code = "NOT_PRIMARY";
}

/** A COMMIT happened on the primary, and nobody knows whether on the standbys, which it must before it counts. */
export class NotSynced extends Error {
  override readonly name = "NotSynced";
  readonly code = "NOT_SYNCED";
}

/** SQLSTATE classes and codes that say "not now" rather than "not like this". */
const passing = [
  "08", // connection exceptions
  "53", // insufficient resources
  "57", // operator intervention: shutdown, statement timeout
  "40001", // serialization failure
  "40P01", // deadlock
  "55P03", // lock not available
  readOnly,
];

/** Drizzle wraps the driver's error, and repeats the values of the statement in its own message. */
export function causeOf(error: unknown): unknown {
  return error instanceof Error && error.cause instanceof Error ? error.cause : error;
}

/** Nobody listens there, a server that is starting or stopping says so, or it is not the one to write to: no use to ask on. */
export function isRefusal(error: unknown): boolean {
  return ["ECONNREFUSED", "ENOENT", "NOT_PRIMARY", cannotConnectNow].includes(errorCode(error) ?? "");
}

export function isReadOnly(error: unknown): boolean {
  return errorCode(error) === readOnly;
}

/**
 * Driver and network errors become StoreUnavailable, without the server's text; everything else is a bug and goes on as
 * it is. Nothing is swallowed: an unknown constraint failure is rethrown.
 */
export function translateError(error: unknown): unknown {
  const code = errorCode(error);
  if (code === undefined) return error;
  const network =
    /^(ECONN|EPIPE|ETIMEDOUT|ENOTFOUND|EAI_|EHOST|ENET|ENOENT|CONNECT|CONNECTION_|NOT_PRIMARY|NOT_SYNCED)/.test(code);
  if (network || (/^[0-9A-Z]{5}$/.test(code) && passing.some((prefix) => code.startsWith(prefix)))) {
    return new StoreUnavailable(`postgres: ${code}`, { cause: error });
  }
  return error;
}

/**
 * Runs a query unless the caller's deadline has passed, and waits for it until then or for as long as a query may take.
 * Throws DeadlinePassed or StoreUnavailable; in both cases the query may still take effect.
 */
export async function guarded<T>(
  deadlineMs: DeadlineMs,
  query: () => Promise<T>,
  timeoutMs = queryTimeoutMs,
): Promise<T> {
  const leftMs = deadlineMs - steadyMs();
  if (leftMs <= 0) throw new DeadlinePassed();
  try {
    return await within(query(), Math.min(leftMs, timeoutMs), () => {
      throw leftMs < timeoutMs ? new DeadlinePassed() : new StoreUnavailable("postgres: no answer in time");
    });
  } catch (error) {
    throw translateError(error);
  }
}
