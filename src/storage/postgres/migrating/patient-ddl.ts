import { setTimeout as pause } from "node:timers/promises";
import { errorCode } from "../../../platform/error-code.js";
import type { Logger } from "../../../platform/logger.js";

/**
 * Whoever waits for a lock that conflicts with reads and writes holds up everybody who comes behind. So it waits for a
 * shorter time than they have patience (`lockTimeoutMs`), lets them pass, and tries again.
 */
export const ddlLockWaitMs = 1_500;
const maxTries = 20;
const firstPauseMs = 1_000;
const maxPauseMs = 5_000;

/** Where a migration says what it does, for it may take a while. */
export type MigrationLog = Pick<Logger, "info" | "warn">;

/** SQLSTATEs: a lock was not had in time; two waited for each other. */
const lockNotAvailable = "55P03";
const deadlockDetected = "40P01";

/** `work` is done again from its beginning, so it has to be a transaction, or one that finds done what is done. */
export async function withPatience(what: string, work: () => Promise<void>, log: MigrationLog): Promise<void> {
  for (let tries = 1; ; tries++) {
    try {
      return await work();
    } catch (error) {
      if (!isLockTrouble(error) || tries === maxTries) throw error;
      const pauseMs = Math.round(Math.min(firstPauseMs * tries, maxPauseMs) * (0.75 + Math.random() / 2));
      log.warn({ what, tries, maxTries, pauseMs }, "a table is locked; trying again");
      await pause(pauseMs);
    }
  }
}

export function isLockTrouble(error: unknown): boolean {
  const code = errorCode(error);
  return code === lockNotAvailable || code === deadlockDetected;
}
