import { setTimeout as pause } from "node:timers/promises";
import { steadyMs } from "../../../platform/clock.js";
import type { DatabaseServer } from "../../../platform/database-url.js";
import type { Logger } from "../../../platform/logger.js";
import { within } from "../../../platform/within.js";
import { translateError } from "../errors.js";
import { Primary } from "./primary.js";

const pauseMs = 250;

/**
 * Waits at the start until there is a Postgres to write to: it may be starting, stopping, or about to be promoted. Throws when
 * that takes longer than `waitMs`, and at once what waiting does not mend: a wrong password, a database that is not there.
 */
export async function awaitPrimary(url: string, waitMs: number, log: Pick<Logger, "warn">): Promise<void> {
  const untilMs = steadyMs() + waitMs;
  const primary = new Primary({ url });
  try {
    for (let tries = 1; ; tries++) {
      const last = await readyWithin(primary, Math.max(0, untilMs - steadyMs()));
      if (last === null) return;
      const { message } = last;
      if (translateError(last) === last) throw new Error(`DATABASE_URL: ${message}`, { cause: last });
      if (steadyMs() + pauseMs > untilMs) {
        throw new Error(`no Postgres was ready within ${waitMs} ms (DATABASE_START_WAIT_MS): ${message}`, {
          cause: last,
        });
      }
      if (tries === 1) log.warn({ reason: message, waitMs }, "postgres is not ready; waiting for it");
      await pause(pauseMs);
    }
  } finally {
    await primary.close();
  }
}

function readyWithin(primary: Primary, ms: number): Promise<Error | null> {
  const ready = primary.ready().then(
    () => null,
    (error) => (error instanceof Error ? error : new Error(String(error))),
  );
  return within<Error | null>(ready, ms, () => primary.notReady());
}

/** The server to connect to for something that is done once. Throws NotPrimary when there is none. */
export async function primaryOf(url: string): Promise<DatabaseServer> {
  const primary = new Primary({ url });
  try {
    return await primary.server();
  } finally {
    await primary.close();
  }
}
