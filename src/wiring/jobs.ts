import type { Config } from "../config.js";
import type { GateKeeper } from "../issuing/gate-keeper.js";
import { CodeExpirer } from "../jobs/code-expirer.js";
import type { CodeGenerator } from "../jobs/code-generator.js";
import { Counter } from "../jobs/counter.js";
import { EventKeeper } from "../jobs/event-keeper.js";
import { Expirer } from "../jobs/expirer.js";
import { type Job, JobLoop } from "../jobs/job-loop.js";
import { Purger } from "../jobs/purger.js";
import { Releaser } from "../jobs/releaser.js";
import { sweep } from "../jobs/sweep.js";
import type { FailureLog } from "../platform/failure-log.js";
import type { Logger } from "../platform/logger.js";
import type { Metrics } from "../platform/metrics.js";
import type { Stores } from "./stores.js";

export interface JobParts {
  readonly stores: Stores;
  readonly keeper: GateKeeper;
  readonly codeGenerator: CodeGenerator;
  readonly config: Config;
  readonly log: Logger;
  readonly failures: FailureLog;
  readonly metrics: Metrics;
  /** What other parts have to run. */
  readonly more?: readonly Job[];
}

/** Everything that runs by itself. */
export function openJobs({
  stores,
  keeper,
  codeGenerator,
  config,
  log,
  failures,
  metrics,
  more = [],
}: JobParts): JobLoop[] {
  const { PURGE, PURGE_AFTER_DAYS: afterDays, PURGE_EVERY_MINUTES: everyMinutes } = config;
  const { DELETED_CODES_KEEP_HOURS: deletedCodesKeepHours } = config;
  const jobs: Job[] = [
    sweep(keeper),
    codeGenerator,
    new CodeExpirer(stores.codes, keeper),
    new Releaser(stores.userCoupons, keeper, log),
    new Expirer(stores.userCoupons),
    new Counter(stores.stats),
    new EventKeeper(stores.events, config.EVENTS_KEEP_DAYS, log),
    ...more,
  ];
  if (PURGE !== "off") {
    const options = { afterDays, deletedCodesKeepHours, everyMinutes, dryRun: PURGE === "dry-run" };
    jobs.push(new Purger(stores.purge, options, log));
  }
  for (const { name } of jobs) metrics.jobPlanned(name);
  return jobs.map((job) => new JobLoop(job, failures, metrics));
}
