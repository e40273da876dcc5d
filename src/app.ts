import { create, type DescMessage, type DescMethodUnary } from "@bufbuild/protobuf";
import { createValidator } from "@bufbuild/protovalidate";
import { CatalogService, CreateCouponRequestSchema } from "../gen/coupon/v1/catalog_service_pb.js";
import { IssuanceService } from "../gen/coupon/v1/issuance_service_pb.js";
import { UsageService } from "../gen/coupon/v1/usage_service_pb.js";
import { UserCouponService } from "../gen/coupon/v1/user_coupon_service_pb.js";
import { assertBounds, boundsOf } from "./bounds.js";
import type { Config } from "./config.js";
import type { ChosenCoupon } from "./domain/usage.js";
import type { Logger } from "./platform/logger.js";
import { Metrics } from "./platform/metrics.js";
import { QuotaDays } from "./platform/quota-days.js";
import type { QuotaOptions } from "./platform/quota-groups.js";
import { Watch } from "./platform/watch.js";
import { MemoryReservations } from "./reservation/memory/memory-reservations.js";
import type { Reservations } from "./reservation/port.js";
import { RedisReservations } from "./reservation/redis/redis-reservations.js";
import { batchCreateCoupons } from "./services/catalog/batch-create-coupons.js";
import { CodeMaker } from "./services/catalog/code-maker.js";
import { CodeRetirer } from "./services/catalog/code-retirer.js";
import { createCoupon } from "./services/catalog/create-coupon.js";
import { deleteCoupon } from "./services/catalog/delete-coupon.js";
import { generateCodes } from "./services/catalog/generate-codes.js";
import { getCodeJob } from "./services/catalog/get-code-job.js";
import { getCoupon } from "./services/catalog/get-coupon.js";
import { getStats } from "./services/catalog/get-stats.js";
import { listCodes } from "./services/catalog/list-codes.js";
import { listCoupons } from "./services/catalog/list-coupons.js";
import { pauseCoupon } from "./services/catalog/pause-coupon.js";
import { resumeCoupon } from "./services/catalog/resume-coupon.js";
import { searchCoupons } from "./services/catalog/search-coupons.js";
import { updateCoupon } from "./services/catalog/update-coupon.js";
import { uploadCodes } from "./services/catalog/upload-codes.js";
import { batchIssueCoupons } from "./services/issuance/batch-issue-coupons.js";
import { GateKeeper } from "./services/issuance/gate-keeper.js";
import { issueCoupon } from "./services/issuance/issue-coupon.js";
import { Issuer, type QueuedAsk, settleBatch } from "./services/issuance/issuer.js";
import { TypeIssuer } from "./services/issuance/type-issuer.js";
import { cancelUsage, keysOfCancel, settleCancels } from "./services/usage/cancel-usage.js";
import { Checkout, settleUses } from "./services/usage/checkout.js";
import { getUsage } from "./services/usage/get-usage.js";
import { listUsages } from "./services/usage/list-usages.js";
import { lockCoupons } from "./services/usage/lock-coupons.js";
import { quoteUsage } from "./services/usage/quote-usage.js";
import { unlockCoupons } from "./services/usage/unlock-coupons.js";
import { useCoupons } from "./services/usage/use-coupons.js";
import { deleteUserCoupon } from "./services/user-coupon/delete-user-coupon.js";
import { getUserCoupon } from "./services/user-coupon/get-user-coupon.js";
import { Lapser } from "./services/user-coupon/lapser.js";
import { listUserCoupons } from "./services/user-coupon/list-user-coupons.js";
import { Purger } from "./services/user-coupon/purger.js";
import { Releaser } from "./services/user-coupon/releaser.js";
import type {
  CancelAsk,
  CancelOutcome,
  ChoiceAsk,
  Dated,
  IssueOutcome,
  LockAsk,
  LockOutcome,
  UseAsk,
  UseOutcome,
} from "./storage/ports.js";
import { PostgresCodeStore } from "./storage/postgres/code-store.js";
import { readCommitLevel } from "./storage/postgres/commit-level.js";
import { PostgresCouponStore } from "./storage/postgres/coupon-store.js";
import { type Database, openDatabase } from "./storage/postgres/database.js";
import { isRefusal } from "./storage/postgres/errors.js";
import { GroupCommit, type GroupCommitOptions } from "./storage/postgres/group-commit.js";
import { PostgresIssueStore } from "./storage/postgres/issue-store.js";
import { migrate } from "./storage/postgres/migrate.js";
import { ping } from "./storage/postgres/ping.js";
import { PostgresPurgeStore } from "./storage/postgres/purge-store.js";
import { PostgresSearchStore } from "./storage/postgres/search-store.js";
import { PostgresStatsStore } from "./storage/postgres/stats-store.js";
import { PostgresTargetStore } from "./storage/postgres/target-store.js";
import { PostgresUsageStore } from "./storage/postgres/usage-store.js";
import { PostgresUserCouponStore } from "./storage/postgres/user-coupon-store.js";
import { ArrivalDeadlines } from "./transport/arrival-deadlines.js";
import { ConnectServer } from "./transport/connect-server.js";
import { explain, messageOf } from "./transport/error-table.js";
import { GrpcServer } from "./transport/grpc-server.js";
import { maxConnections } from "./transport/http2-limits.js";
import { LargeMessages } from "./transport/large-messages.js";
import { FrontDoor } from "./transport/overload/front-door.js";
import { pages } from "./transport/pages.js";
import { type Handler, Pipeline, violationsIn } from "./transport/pipeline.js";
import { regexMatch } from "./transport/regex-match.js";
import { type Route, routeOf } from "./transport/routes.js";

/** Rows in one commit at most, rows that are worth a second commit beside it, and rows waiting for one. */
const maxBatchSize = 256;
const sideBatchSize = 32;
const maxWaiting = 10_000;

export interface App {
  readonly grpcPort: number;
  readonly httpPort: number;
  /** Lets calls under way end, commits what was accepted, and closes everything. */
  close(): Promise<void>;
}

/** Wires everything; the only place that knows every part. */
export async function startApp(config: Config & { DATABASE_URL: string }, log: Logger): Promise<App> {
  const bounds = boundsOf(config.DATABASE_POOL_SIZE);
  assertBounds(bounds, { poolSize: config.DATABASE_POOL_SIZE });
  const metrics = new Metrics();
  await migrate(config.DATABASE_URL);
  const database = openDatabase({
    url: config.DATABASE_URL,
    poolSize: config.DATABASE_POOL_SIZE,
    synchronousCommit: await readCommitLevel(config.DATABASE_URL),
    onErrors: (report) => {
      metrics.storeErrors(report.code, report.count);
      log.warn(report, "postgres answered with an error");
    },
    onTaken: (pool, waitedMs) => metrics.poolWait(pool, waitedMs / 1_000),
  });
  metrics.pools(database.pools);

  const couponStore = new PostgresCouponStore(database);
  const codeStore = new PostgresCodeStore(database);
  const userCouponStore = new PostgresUserCouponStore(database);
  const issueStore = new PostgresIssueStore(database, config.QUOTA_TIME_ZONE);
  const usageStore = new PostgresUsageStore(database);
  const targetStore = new PostgresTargetStore(database);
  const quotaDays = new QuotaDays(config.QUOTA_TIME_ZONE);
  const reservations = await openReservations(config, log, {
    quotaDays,
    quotaGroupOf: (couponId) => issueStore.quotaGroupOf(couponId),
  });
  const keeper = new GateKeeper(reservations, issueStore, usageStore, log, bounds.loads);
  const codeMaker = new CodeMaker(codeStore, keeper, log);
  const upkeep = [
    keeper,
    codeMaker,
    new CodeRetirer(codeStore, keeper, log),
    new Releaser(userCouponStore, keeper, log),
    new Lapser(userCouponStore, log),
    ...(config.PURGE === "off" ? [] : [openPurger(config, database, log)]),
  ];
  const queueOf = <Ask, Outcome>(
    name: string,
    options: Pick<GroupCommitOptions<Ask, Outcome>, "commit" | "keysOf"> & Partial<GroupCommitOptions<Ask, Outcome>>,
  ) =>
    new GroupCommit<Ask, Outcome>({
      afterCommit: async () => {},
      onAfterCommitError: (error) => log.error({ err: error, queue: name }, "settling failed"),
      maxBatchSize,
      maxBatches: 1,
      sideBatchSize,
      maxWaiting,
      onBatch: (size) => metrics.batch(name, size),
      ...options,
    });
  const issueQueueOf = (name: string, maxBatches: number) =>
    queueOf<QueuedAsk, IssueOutcome>(name, {
      maxBatches,
      commit: (asks, again) => issueStore.issueBatch(asks, again),
      afterCommit: (asks, outcomes) => settleBatch(reservations, keeper, asks, outcomes),
      keysOf: (ask) => [`u ${ask.couponId} ${ask.userId}`, ...(ask.requestId ? [`r ${ask.requestId}`] : [])],
    });
  const issues = {
    any: issueQueueOf("issue", bounds.batches.issue),
    code: issueQueueOf("issue-code", bounds.batches.issueCode),
  };
  const issuer = new Issuer(reservations, keeper, issues, userCouponStore, quotaDays, config.RESERVATION_MS);
  const reads = queueOf<ChoiceAsk, Dated<ChosenCoupon | null>>("read", {
    commit: (asks) => usageStore.readChosen(asks),
    keysOf: () => [],
    // A read is over so soon that larger batches are worth more than a second one beside it.
    maxBatches: 1,
  });
  const uses = queueOf<UseAsk, UseOutcome>("use", {
    commit: (asks, again) => usageStore.useBatch(asks, { again, together: false }),
    afterCommit: (asks, outcomes) => settleUses(reservations, keeper, asks, outcomes),
    keysOf: (ask) => (ask.requestId ? [ask.requestId] : []),
    // What a commit costs is shared by its rows; while one is under way, the next orders are read and judged.
    maxBatches: bounds.batches.use,
  });
  const locks = queueOf<LockAsk, LockOutcome>("lock", {
    commit: (asks) => usageStore.lockBatch(asks, { together: false }),
    keysOf: () => [],
    maxBatches: bounds.batches.lock,
  });
  const cancels = queueOf<CancelAsk, CancelOutcome>("cancel", {
    commit: (asks, again) => usageStore.cancelBatch(asks, again),
    afterCommit: (_, outcomes) => settleCancels(keeper, outcomes),
    keysOf: keysOfCancel,
    // Cancels are few: no connection is kept for them.
    maxBatches: 1,
  });
  const checkout = new Checkout(usageStore, { reads, uses, locks }, reservations, keeper, config.RESERVATION_MS);

  const watch = new Watch({
    look: (signal) => ping(database.pulse, signal),
    isRefusal,
    lastAnswerMs: () => database.lastAnswerMs,
    onFailure: (look) => metrics.pingFailure(look),
    onChange: (up) => {
      grpcServer.setServing(up);
      if (up) log.warn("postgres is back; serving");
      else log.error("postgres is away; not serving");
    },
  });
  const validator = createValidator({ regexMatch });
  const pipeline = new Pipeline({
    log,
    metrics,
    validator,
    defaultDeadlineMs: config.DEFAULT_DEADLINE_MS,
    maxDeadlineMs: config.MAX_DEADLINE_MS,
    isServing: () => watch.up,
  });
  const route = <I extends DescMessage, O extends DescMessage>(
    method: DescMethodUnary<I, O>,
    handler: Handler<I, O>,
  ): Route => routeOf(method, pipeline.mount(method, handler));

  // The reservation layer's copy goes before the edit is committed; if Redis is away, a sweep does it.
  const renew = (couponId: string) => keeper.forget(couponId);
  const routes = [
    route(CatalogService.method.createCoupon, createCoupon(couponStore)),
    route(
      CatalogService.method.batchCreateCoupons,
      batchCreateCoupons(
        couponStore,
        (coupon) => violationsIn(validator, CreateCouponRequestSchema, create(CreateCouponRequestSchema, { coupon })),
        explain,
      ),
    ),
    route(CatalogService.method.getCoupon, getCoupon(couponStore)),
    route(CatalogService.method.listCoupons, listCoupons(couponStore)),
    route(CatalogService.method.updateCoupon, updateCoupon(couponStore, renew)),
    route(CatalogService.method.deleteCoupon, deleteCoupon(couponStore, renew)),
    route(CatalogService.method.pauseCoupon, pauseCoupon(couponStore, renew)),
    route(CatalogService.method.resumeCoupon, resumeCoupon(couponStore, renew)),
    route(IssuanceService.method.issueCoupon, issueCoupon(issuer, new TypeIssuer(issuer, targetStore), targetStore)),
    route(CatalogService.method.searchCoupons, searchCoupons(new PostgresSearchStore(database))),
    route(CatalogService.method.uploadCodes, uploadCodes(codeStore, renew)),
    route(CatalogService.method.generateCodes, generateCodes(codeStore, codeMaker)),
    route(CatalogService.method.getCodeJob, getCodeJob(codeStore)),
    route(CatalogService.method.listCodes, listCodes(codeStore, couponStore)),
    route(
      IssuanceService.method.batchIssueCoupons,
      batchIssueCoupons(issuer, explain, (error) => log.error({ err: error }, "issuing to one of many failed")),
    ),
    route(CatalogService.method.getStats, getStats(new PostgresStatsStore(database))),
    route(UserCouponService.method.getUserCoupon, getUserCoupon(userCouponStore, usageStore)),
    route(UserCouponService.method.listUserCoupons, listUserCoupons(userCouponStore, usageStore)),
    route(UserCouponService.method.deleteUserCoupon, deleteUserCoupon(userCouponStore, keeper)),
    route(UsageService.method.quoteUsage, quoteUsage(checkout, usageStore, messageOf)),
    route(UsageService.method.lockCoupons, lockCoupons(checkout, usageStore)),
    route(UsageService.method.unlockCoupons, unlockCoupons(usageStore)),
    route(UsageService.method.useCoupons, useCoupons(checkout, usageStore)),
    route(UsageService.method.cancelUsage, cancelUsage(cancels)),
    route(UsageService.method.getUsage, getUsage(usageStore)),
    route(UsageService.method.listUsages, listUsages(usageStore)),
  ];
  pipeline.warm(routes.map(({ method }) => method));

  const largeMessages = new LargeMessages();
  const frontDoor = new FrontDoor({
    maxAtWork: config.MAX_IN_FLIGHT,
    maxConnections,
    isServing: () => watch.up,
    metrics,
    log,
  });
  const arrivals = new ArrivalDeadlines();
  const grpcServer = new GrpcServer(routes, largeMessages, arrivals, frontDoor);
  const connectServer = new ConnectServer(
    routes,
    largeMessages,
    arrivals,
    pages(metrics, () => watch.up),
    frontDoor,
    (error) => log.warn({ err: error }, "answer could not be sent"),
  );
  const host = config.HOST ?? "0.0.0.0";
  const grpcPort = await grpcServer.listen(host, config.GRPC_PORT);
  const httpPort = await connectServer.listen(host, config.HTTP_PORT);
  for (const work of upkeep) work.start();
  watch.start();

  return {
    grpcPort,
    httpPort,
    close: async () => {
      watch.close();
      grpcServer.setServing(false);
      await Promise.all([grpcServer.close(config.DRAIN_MS), connectServer.close(config.DRAIN_MS)]);
      frontDoor.close();
      await Promise.all([...Object.values(issues), reads, uses, locks, cancels].map((queue) => queue.drain()));
      await Promise.all(upkeep.map((work) => work.close()));
      await reservations.close();
      await database.close();
    },
  };
}

function openPurger(config: Config, database: Database, log: Logger): Purger {
  const { PURGE, PURGE_AFTER_DAYS: afterDays, PURGE_EVERY_MINUTES: everyMinutes } = config;
  return new Purger(new PostgresPurgeStore(database), { afterDays, everyMinutes, dryRun: PURGE === "dry-run" }, log);
}

async function openReservations(config: Config, log: Logger, quotas: QuotaOptions): Promise<Reservations> {
  if (!config.REDIS_URL) {
    log.warn("no REDIS_URL: reservations are kept in this process, so run only one");
    return new MemoryReservations({ reservationMs: config.RESERVATION_MS, ...quotas });
  }
  const reservations = new RedisReservations({
    url: config.REDIS_URL,
    keyPrefix: config.REDIS_KEY_PREFIX,
    log,
    reservationMs: config.RESERVATION_MS,
    ...quotas,
  });
  if (!(await reservations.ready())) log.warn("redis does not answer; requests go straight to postgres until it does");
  return reservations;
}
