import { setTimeout as pause } from "node:timers/promises";
import { steadyMs } from "../../../platform/clock.js";
import { errorCode } from "../../../platform/error-code.js";
import type { Logger } from "../../../platform/logger.js";

/**
 * Whoever waits for a lock that conflicts with reads and writes holds up everybody who comes behind. So it waits for a
 * shorter time than they have patience (`lockTimeoutMs`), lets them pass, and tries again. Four waits together are no longer than
 * Postgres' `deadlock_timeout` of 1 s: a call that waits for one of the tables of a migration, and has another that the
 * migration waits for, is not the one that Postgres ends.
 */
export const ddlLockWaitMs = 240;
const maxMs = 300_000;
const firstPauseMs = 200;
const maxPauseMs = 2_000;

/** Where a migration says what it does, for it may take a while. */
export type MigrationLog = Pick<Logger, "info" | "warn">;

/** SQLSTATEs: a lock was not had in time; two waited for each other. */
const lockNotAvailable = "55P03";
const deadlockDetected = "40P01";

/** `work` is done again from its beginning, so it has to be a transaction, or one that finds done what is done. */
export async function withPatience(what: string, work: () => Promise<void>, log: MigrationLog): Promise<void> {
  const untilMs = steadyMs() + maxMs;
  for (let tries = 1; ; tries++) {
    try {
      return await work();
    } catch (error) {
      if (!isLockTrouble(error) || steadyMs() > untilMs) throw error;
      const pauseMs = Math.round(Math.min(firstPauseMs * tries, maxPauseMs) * (0.75 + Math.random() / 2));
      log.warn({ what, tries, pauseMs }, "a table is locked; trying again");
      await pause(pauseMs);
    }
  }
}

export function isLockTrouble(error: unknown): boolean {
  const code = errorCode(error);
  return code === lockNotAvailable || code === deadlockDetected;
}
