import { setTimeout as sleep } from "node:timers/promises";
import { type Config, hostOf } from "./config.js";
import { GateKeeper } from "./issuing/gate-keeper.js";
import { CodeGenerator } from "./jobs/code-generator.js";
import { RefusalRecorder } from "./jobs/refusal-recorder.js";
import { FailureLog } from "./platform/failure-log.js";
import type { ServiceLogger } from "./platform/logger.js";
import { Metrics } from "./platform/metrics.js";
import { packageVersion } from "./platform/package-root.js";
import { Probe } from "./platform/probe.js";
import { QuotaDays } from "./platform/quotas/quota-days.js";
import type { Secret } from "./platform/secrets/secret.js";
import { showDroppedLines } from "./platform/telemetry/log-metrics.js";
import { isRefusal } from "./storage/postgres/errors.js";
import { ArrivalDeadlines } from "./transport/messages/arrival-deadlines.js";
import { Pipeline } from "./transport/pipeline.js";
import { messageValidator } from "./transport/validator.js";
import { openAuth } from "./wiring/auth.js";
import { assertBounds, boundsOf } from "./wiring/bounds.js";
import { openEngines, openQueues } from "./wiring/engines.js";
import { openFollowing } from "./wiring/following.js";
import { openFrontEnds } from "./wiring/front-ends/front-ends.js";
import { openTls } from "./wiring/front-ends/tls.js";
import { openGate } from "./wiring/gate.js";
import { loopsOf, openJobs } from "./wiring/jobs.js";
import { openLimits } from "./wiring/limits.js";
import { prepareDatabase } from "./wiring/migrating.js";
import { openPostgres } from "./wiring/postgres.js";
import { openRelay } from "./wiring/relay.js";
import { mountRpcs } from "./wiring/rpcs.js";
import { openStores } from "./wiring/stores.js";
import { openTelemetry } from "./wiring/telemetry.js";

export interface App {
  readonly grpcPort: number;
  readonly httpPort: number;
  readonly adminPort?: number;
  /** Reads the files again that others may exchange: certificates, names of callers. Absent: there are none. */
  readonly reload?: () => void;
  /** Lets calls under way end, commits what was accepted, and closes everything. */
  close(): Promise<void>;
}

/** Of the time that calls have to end, what is kept for telling those that have not to come again. */
const lastAnswersMs = 500;

/** Wires everything; the only place that knows every part. */
export async function startApp(
  config: Config & { DATABASE_URL: Secret },
  { log, droppedLines }: Pick<ServiceLogger, "log" | "droppedLines">,
): Promise<App> {
  const bounds = boundsOf(config.DATABASE_POOL_SIZE);
  assertBounds(bounds, { poolSize: config.DATABASE_POOL_SIZE });
  const metrics = new Metrics(packageVersion());
  showDroppedLines(metrics.registry, droppedLines);
  const failures = new FailureLog({ log });
  const telemetry = await openTelemetry(config, metrics, failures);
  const arrivals = new ArrivalDeadlines();
  const { tls, reloads: tlsReloads } = openTls(config, arrivals, metrics, log);
  await prepareDatabase(config, log);
  const { database, clock, readClock } = await openPostgres({ config, metrics, failures, log });
  const stores = openStores(database, config.QUOTA_TIME_ZONE);
  const quotaDays = new QuotaDays(config.QUOTA_TIME_ZONE);
  const { gate, redisMode } = await openGate(config, log, failures, {
    ...{ clock, quotaDays },
    quotaGroupOf: (couponId) => stores.issues.quotaGroupOf(couponId),
  });
  const keeper = new GateKeeper(gate, stores.issues, stores.usages, log, failures, bounds.loads, metrics.gate);
  const codeGenerator = new CodeGenerator(stores.codes, keeper, log, failures);
  const queues = openQueues(metrics.batches, failures);
  const engines = openEngines({
    ...{ stores, gate, keeper, quotaDays, clock, reservationMs: config.RESERVATION_MS },
    ...{ openQueue: queues.open, batches: bounds.batches, failures, metrics: metrics.gate },
  });
  metrics.gate.watch({
    redisMode,
    reservationsOpen: () => engines.issuer.reservationsOpen,
    loadsUnderWay: () => keeper.loadsUnderWay,
  });
  const refusalRecorder = new RefusalRecorder({
    ...{ store: stores.audit, clock, failures },
    onDropped: (count) => metrics.auditDropped(count),
  });
  const auth = await openAuth({ config, stores, log, failures: metrics, failureLog: failures, clock });
  const reloads = loopsOf([...tlsReloads, ...auth.jobs], failures, metrics);
  const jobs = [
    ...openJobs({ stores, keeper, codeGenerator, refusalRecorder, config, log, failures, metrics }),
    ...(await openRelay(config, stores, log, failures, metrics)),
    ...reloads,
  ];

  const probe = new Probe({
    probe: readClock,
    isRefusal,
    lastAnswerMs: () => database.lastAnswerMs,
    onFailure: (outcome) => metrics.probeFailed(outcome),
    onChange: (up) => {
      frontEnds.setServing(up);
      if (up) log.warn("postgres is back; serving");
      else log.error("postgres is away; not serving");
    },
  });
  const isServing = () => probe.up;
  const limits = await openLimits(config, metrics, failures);
  const validator = messageValidator();
  const pipeline = new Pipeline({
    ...{ log, metrics, validator, isServing, authenticator: auth.authenticator, ...telemetry },
    rates: limits.rates,
    onRefused: (refused) => refusalRecorder.add(refused),
    defaultDeadlineMs: config.DEFAULT_DEADLINE_MS,
    maxDeadlineMs: config.MAX_DEADLINE_MS,
  });
  const following = openFollowing(stores.events, config.MAX_WATCHERS, failures, metrics);
  const routes = mountRpcs({
    ...{ stores, engines, following, keeper, codeGenerator, pipeline, validator, failures, clock, auth },
    wrongCodes: limits.wrongCodes,
  });
  pipeline.warm(routes.map(({ method }) => method));
  for (const { method } of routes) metrics.serves(method.name);

  const frontEnds = await openFrontEnds({ config, routes, arrivals, tls, isServing, metrics, log });
  if (config.AUTH === undefined)
    log.warn({ host: hostOf(config) }, "AUTH is not set: nobody is asked who they are, and only this machine may call");
  const ports = await frontEnds.listen();
  for (const job of jobs) job.start();
  probe.start();

  return {
    ...ports,
    ...(reloads.length > 0 && { reload: () => reloads.forEach((job) => void job.hurry()) }),
    close: async () => {
      frontEnds.sayGoing();
      // Balancers need a while to see that; until then they send calls, which are served.
      await sleep(config.DRAIN_DELAY_MS);
      following.watchers.end();
      const giveUp = setTimeout(() => pipeline.giveUp(), Math.max(0, config.DRAIN_MS - lastAnswersMs));
      await frontEnds.drain();
      clearTimeout(giveUp);
      following.feed.close();
      probe.close();
      await queues.drain();
      await Promise.all(jobs.map((job) => job.close()));
      await keeper.close();
      await gate.close();
      limits.close();
      await database.close();
      await frontEnds.close();
      await telemetry.tracing?.close();
    },
  };
}
