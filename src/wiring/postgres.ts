import { setTimeout as pause } from "node:timers/promises";
import type { Config } from "../config.js";
import { MeasuredClock } from "../platform/clock.js";
import type { FailureLog } from "../platform/failure-log.js";
import type { Logger } from "../platform/logger.js";
import type { Metrics } from "../platform/metrics.js";
import type { Secret } from "../platform/secrets/secret.js";
import { openDatabase } from "../storage/postgres/database.js";
import { readCommitLevel } from "../storage/postgres/durability.js";
import { translateError } from "../storage/postgres/errors.js";
import { probePostgres } from "../storage/postgres/probe-postgres.js";

/** How long Postgres, which was there a moment ago, may take to say what time it is before the start fails. */
const firstAnswerMs = 10_000;
const pauseMs = 250;

interface PostgresParts {
  readonly config: Config & { readonly DATABASE_URL: Secret };
  readonly metrics: Metrics;
  readonly failures: FailureLog;
  readonly log: Logger;
}

/** The database, and the clock that goes by its time. `readClock` asks whether it is there and what time it is. */
export async function openPostgres({ config, metrics, failures, log }: PostgresParts) {
  const database = openDatabase({
    url: config.DATABASE_URL.reveal(),
    poolSize: config.DATABASE_POOL_SIZE,
    synchronousCommit: await readCommitLevel(config.DATABASE_URL.reveal(), config.DATABASE_DURABILITY),
    onError: (code) => metrics.storeFailed(code),
    onErrors: (report) => log.warn(report, "postgres answered with an error"),
    onTaken: (pool, waitedMs) => metrics.poolWait(pool, waitedMs / 1_000),
    onMoved: (move) => {
      metrics.primaryMoved();
      log.warn(move, "another postgres is the primary; all connections go there");
    },
    onWatched: (server, error) => {
      const work = `watch postgres ${server}`;
      if (error === undefined) failures.succeeded(work);
      else failures.failed(work, error);
    },
  });
  metrics.pools(database.pools);

  const clock = new MeasuredClock({
    onChange: (isWrong, aheadMs) => {
      log.warn(
        { aheadMs },
        isWrong ? "this machine's clock is wrong; that of postgres counts" : "this machine's clock is right again",
      );
    },
  });
  metrics.clock(() => clock.aheadMs / 1_000);
  const readClock = (signal: AbortSignal) =>
    probePostgres(database.probeLink, signal, (...times) => clock.note(...times));
  await firstAnswer(readClock);
  return { database, clock, readClock };
}

/** While much starts at once, a connection may take longer than one may take later: then the next one is tried. */
async function firstAnswer(readClock: (signal: AbortSignal) => Promise<void>): Promise<void> {
  const signal = AbortSignal.timeout(firstAnswerMs);
  for (;;) {
    try {
      return await readClock(signal);
    } catch (error) {
      if (signal.aborted || translateError(error) === error) throw error;
      await pause(pauseMs);
    }
  }
}
