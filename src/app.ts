import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { createValidator } from "@bufbuild/protovalidate";
import { Queues } from "./batching/queues.js";
import { type Config, hostOf } from "./config.js";
import { GateKeeper } from "./issuing/gate-keeper.js";
import { CodeGenerator } from "./jobs/code-generator.js";
import { RefusalRecorder } from "./jobs/refusal-recorder.js";
import { MeasuredClock } from "./platform/clock.js";
import { FailureLog } from "./platform/failure-log.js";
import type { Logger } from "./platform/logger.js";
import { Metrics } from "./platform/metrics.js";
import { packageRoot, packageVersion } from "./platform/package-root.js";
import { Probe } from "./platform/probe.js";
import { QuotaDays } from "./platform/quota-days.js";
import type { Secret } from "./platform/secrets/secret.js";
import { openDatabase } from "./storage/postgres/database.js";
import { readCommitLevel } from "./storage/postgres/durability.js";
import { isRefusal } from "./storage/postgres/errors.js";
import { probePostgres } from "./storage/postgres/probe-postgres.js";
import { AdminServer } from "./transport/connect/admin-server.js";
import { ConnectServer } from "./transport/connect/connect-server.js";
import { consolePages } from "./transport/connect/console-pages.js";
import { Cors } from "./transport/connect/cors.js";
import { allOf, noPages, pages } from "./transport/connect/pages.js";
import { GrpcServer } from "./transport/grpc/grpc-server.js";
import { maxConnections } from "./transport/http2-limits.js";
import { ArrivalDeadlines } from "./transport/messages/arrival-deadlines.js";
import { LargeMessages } from "./transport/messages/large-messages.js";
import { LoadShedder } from "./transport/overload/load-shedder.js";
import { Pipeline } from "./transport/pipeline.js";
import { regexMatch } from "./transport/regex-match.js";
import { openAuth } from "./wiring/auth.js";
import { assertBounds, boundsOf } from "./wiring/bounds.js";
import { openContract } from "./wiring/contract.js";
import { docsPages } from "./wiring/docs.js";
import { openEngines } from "./wiring/engines.js";
import { openFollowing } from "./wiring/following.js";
import { openGate } from "./wiring/gate.js";
import { loopsOf, openJobs } from "./wiring/jobs.js";
import { openLimits } from "./wiring/limits.js";
import { prepareDatabase } from "./wiring/migrating.js";
import { mountRpcs } from "./wiring/rpcs.js";
import { openStores } from "./wiring/stores.js";
import { openTelemetry } from "./wiring/telemetry.js";
import { openTls } from "./wiring/tls.js";

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
/** How long Postgres, which was there a moment ago, may take to say what time it is before the start fails. */
const firstAnswerMs = 10_000;

/** Wires everything; the only place that knows every part. */
export async function startApp(config: Config & { DATABASE_URL: Secret }, log: Logger): Promise<App> {
  const bounds = boundsOf(config.DATABASE_POOL_SIZE);
  assertBounds(bounds, { poolSize: config.DATABASE_POOL_SIZE });
  const metrics = new Metrics(packageVersion());
  const failures = new FailureLog({ log });
  const telemetry = await openTelemetry(config, metrics, failures);
  const arrivals = new ArrivalDeadlines();
  const { tls, reloads: tlsReloads } = openTls(config, arrivals, metrics, log);
  await prepareDatabase(config, log);
  const database = openDatabase({
    url: config.DATABASE_URL.reveal(),
    poolSize: config.DATABASE_POOL_SIZE,
    synchronousCommit: await readCommitLevel(config.DATABASE_URL.reveal(), config.DATABASE_DURABILITY),
    onErrors: (report) => {
      metrics.storeErrors(report.code, report.count);
      log.warn(report, "postgres answered with an error");
    },
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
  await readClock(AbortSignal.timeout(firstAnswerMs));

  const stores = openStores(database, config.QUOTA_TIME_ZONE);
  const quotaDays = new QuotaDays(config.QUOTA_TIME_ZONE);
  const { gate, redisMode } = await openGate(config, log, failures, {
    ...{ clock, quotaDays },
    quotaGroupOf: (couponId) => stores.issues.quotaGroupOf(couponId),
  });
  const keeper = new GateKeeper(gate, stores.issues, stores.usages, log, failures, bounds.loads, metrics.gate);
  const codeGenerator = new CodeGenerator(stores.codes, keeper, log, failures);
  const queues = new Queues({
    onBatch: (queue, size) => metrics.batches.begun(queue, size),
    onWaited: (queue, ms) => metrics.batches.waited(queue, ms),
    onCommitted: (queue, ms) => metrics.batches.committed(queue, ms),
    onAfterCommitError: (queue, error) => failures.failed(`settle ${queue}`, error),
  });
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
    ...reloads,
  ];

  const probe = new Probe({
    probe: readClock,
    isRefusal,
    lastAnswerMs: () => database.lastAnswerMs,
    onFailure: (outcome) => metrics.probeFailed(outcome),
    onChange: (up) => {
      health.setServing(up && !isStopping);
      if (up) log.warn("postgres is back; serving");
      else log.error("postgres is away; not serving");
    },
  });
  const isServing = () => probe.up;
  let isStopping = false;
  const limits = await openLimits(config, metrics, failures);
  const validator = createValidator({ regexMatch });
  const pipeline = new Pipeline({
    ...{ log, metrics, validator, isServing, authenticator: auth.authenticator, ...telemetry },
    rates: limits.rates,
    onRefused: (refused) => refusalRecorder.add(refused),
    defaultDeadlineMs: config.DEFAULT_DEADLINE_MS,
    maxDeadlineMs: config.MAX_DEADLINE_MS,
  });
  const following = openFollowing(stores.events, config.MAX_WATCHERS, failures, metrics);
  const routes = mountRpcs({
    ...{ stores, engines, following, keeper, codeGenerator, pipeline, validator, failures, clock },
    wrongCodes: limits.wrongCodes,
  });
  pipeline.warm(routes.map(({ method }) => method));

  const largeMessages = new LargeMessages();
  const loadShedder = new LoadShedder({ maxAtWork: config.MAX_IN_FLIGHT, maxConnections, isServing, metrics, log });
  const onLost = (error: unknown) => log.warn({ err: error }, "answer could not be sent");
  const { health, standard, contract } = openContract(routes, config.REFLECTION === "on", onLost);
  const grpcServer = new GrpcServer(routes, largeMessages, arrivals, loadShedder, { tls, standard });
  const readiness = () => (isStopping ? "stopping" : isServing() ? "ready" : "postgres is away");
  const statusPages = allOf(contract, pages(metrics, readiness));
  const hasAdmin = config.ADMIN_PORT !== undefined;
  // It is where the API is, which it calls, whatever port the other pages have.
  const consoleFiles = config.CONSOLE === "on" ? consolePages(join(packageRoot(), "dist/console")) : noPages;
  const httpPages = allOf(hasAdmin ? contract : allOf(statusPages, await docsPages(config)), consoleFiles);
  const connectServer = new ConnectServer(
    ...([routes, largeMessages, arrivals, httpPages, loadShedder, onLost] as const),
    { tls, standard, cors: config.CORS_ORIGINS && new Cors(config.CORS_ORIGINS) },
  );
  const host = hostOf(config);
  if (config.AUTH === undefined)
    log.warn({ host }, "AUTH is not set: nobody is asked who they are, and only this machine may call");
  const grpcPort = await grpcServer.listen(host, config.GRPC_PORT);
  const httpPort = await connectServer.listen(host, config.HTTP_PORT);
  const adminPages = async () =>
    allOf(statusPages, await docsPages(config, { port: httpPort, isSecure: tls !== undefined }));
  const admin = hasAdmin ? new AdminServer(await adminPages()) : undefined;
  const adminPort = await admin?.listen(config.ADMIN_HOST ?? host, config.ADMIN_PORT ?? 0);
  for (const job of jobs) job.start();
  probe.start();

  return {
    grpcPort,
    httpPort,
    ...(adminPort !== undefined && { adminPort }),
    ...(reloads.length > 0 && { reload: () => reloads.forEach((job) => void job.hurry()) }),
    close: async () => {
      isStopping = true;
      health.setServing(false);
      // Balancers need a while to see that; until then they send calls, which are served.
      await sleep(config.DRAIN_DELAY_MS);
      standard.calls.close();
      following.watchers.end();
      const giveUp = setTimeout(() => pipeline.giveUp(), Math.max(0, config.DRAIN_MS - lastAnswersMs));
      await Promise.all([grpcServer.close(config.DRAIN_MS), connectServer.close(config.DRAIN_MS)]);
      clearTimeout(giveUp);
      following.feed.close();
      probe.close();
      loadShedder.close();
      await queues.drain();
      await Promise.all(jobs.map((job) => job.close()));
      await keeper.close();
      await gate.close();
      limits.close();
      await database.close();
      await admin?.close();
      await telemetry.tracing?.close();
    },
  };
}
