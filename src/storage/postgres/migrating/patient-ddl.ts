import { setTimeout as pause } from "node:timers/promises";
import type { Sql } from "postgres";
import { steadyMs } from "../../../platform/clock.js";
import { errorCode } from "../../../platform/error-code.js";
import type { Logger } from "../../../platform/logger.js";

/**
 * Whoever waits for a lock that conflicts with reads and writes holds up everybody who comes behind. So it waits for a
 * shorter time than they have patience (`lockTimeoutMs`), lets them pass, and tries again. Mostly it gets the lock at once, or not at all:
 * one caller uses the table and waits for a row, and who has the row wants the table, behind the migration. So the first waits are
 * short, and then grow, for a machine that has much to do. Four of them together are no longer than Postgres' `deadlock_timeout` of 1 s: a
 * call that waits for one of the tables of a migration, and has another that the migration waits for, is not the one that Postgres ends.
 */
const lockWaitsMs = [60, 120, 240];
/** Autovacuum may take hours for a table. It gives way to those who have waited for its table for `deadlock_timeout`, so one try in some waits longer. */
const triesPerLongWait = 6;
const longWaitMs = 1_200;
const maxMs = 300_000;
const firstPauseMs = 100;
const maxPauseMs = 2_000;

/** Where a migration says what it does, for it may take a while. */
export type MigrationLog = Pick<Logger, "info" | "warn">;

/** SQLSTATEs: a lock was not had in time; two waited for each other. */
const lockNotAvailable = "55P03";
const deadlockDetected = "40P01";

/** `work` is done again from its beginning, so it has to be a transaction, or one that finds done what is done. */
export async function withPatience(
  client: Sql,
  what: string,
  work: () => Promise<void>,
  log: MigrationLog,
): Promise<void> {
  const untilMs = steadyMs() + maxMs;
  for (let tries = 1; ; tries++) {
    try {
      await client.unsafe(`SET lock_timeout = ${lockWaitMs(tries)}`);
      return await work();
    } catch (error) {
      if (!isLockTrouble(error) || steadyMs() > untilMs) throw error;
      const pauseMs = Math.round(Math.min(firstPauseMs * tries, maxPauseMs) * (0.75 + Math.random() / 2));
      log.warn({ what, tries, pauseMs }, "a table is locked; trying again");
      await pause(pauseMs);
    }
  }
}

function lockWaitMs(tries: number): number {
  if (tries % triesPerLongWait === 0) return longWaitMs;
  return lockWaitsMs[Math.min(tries, lockWaitsMs.length) - 1] as number;
}

export function isLockTrouble(error: unknown): boolean {
  const code = errorCode(error);
  return code === lockNotAvailable || code === deadlockDetected;
}
