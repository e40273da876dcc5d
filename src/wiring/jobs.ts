import type { Config } from "../config.js";
import type { GateKeeper } from "../issuing/gate-keeper.js";
import { CodeExpirer } from "../jobs/code-expirer.js";
import type { CodeGenerator } from "../jobs/code-generator.js";
import { Counter } from "../jobs/counter.js";
import { Expirer } from "../jobs/expirer.js";
import { type Job, JobLoop } from "../jobs/job-loop.js";
import { MonthKeeper } from "../jobs/month-keeper.js";
import { Purger } from "../jobs/purger.js";
import type { RefusalRecorder } from "../jobs/refusal-recorder.js";
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
  readonly refusalRecorder: RefusalRecorder;
  readonly config: Config;
  readonly log: Logger;
  readonly failures: FailureLog;
  readonly metrics: Metrics;
}

/** Everything that runs by itself. */
export function openJobs({ stores, config, log, failures, metrics, ...parts }: JobParts): JobLoop[] {
  const { keeper, codeGenerator, refusalRecorder } = parts;
  const { PURGE, PURGE_AFTER_DAYS: afterDays, PURGE_EVERY_MINUTES: everyMinutes } = config;
  const { DELETED_CODES_KEEP_HOURS: deletedCodesKeepHours } = config;
  const jobs: Job[] = [
    sweep(keeper),
    codeGenerator,
    new CodeExpirer(stores.codes, keeper),
    new Releaser(stores.userCoupons, keeper, log),
    new Expirer(stores.userCoupons),
    new Counter(stores.stats),
    new MonthKeeper("keep events", stores.events, config.EVENTS_KEEP_DAYS, log),
    new MonthKeeper("keep audit records", stores.audit, config.AUDIT_KEEP_DAYS, log),
    refusalRecorder,
  ];
  if (PURGE !== "off") {
    const options = { afterDays, deletedCodesKeepHours, everyMinutes, dryRun: PURGE === "dry-run" };
    jobs.push(new Purger(stores.purge, options, log));
  }
  return loopsOf(jobs, failures, metrics);
}

export function loopsOf(jobs: readonly Job[], failures: FailureLog, metrics: Metrics): JobLoop[] {
  for (const { name } of jobs) metrics.jobPlanned(name);
  return jobs.map((job) => new JobLoop(job, failures, metrics));
}
