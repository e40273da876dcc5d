import { Redis } from "ioredis";
import { Queues } from "../../src/batching/queues.js";
import { EventFeed } from "../../src/following/event-feed.js";
import { EventReader } from "../../src/following/event-reader.js";
import { Watchers } from "../../src/following/watchers.js";
import { GateKeeper } from "../../src/issuing/gate-keeper.js";
import { TypeIssuer } from "../../src/issuing/type-issuer.js";
import { CodeExpirer } from "../../src/jobs/code-expirer.js";
import { CodeGenerator } from "../../src/jobs/code-generator.js";
import { Expirer } from "../../src/jobs/expirer.js";
import { Purger } from "../../src/jobs/purger.js";
import { Releaser } from "../../src/jobs/releaser.js";
import { FailureLog, type FailureLogOptions } from "../../src/platform/failure-log.js";
import { QuotaDays } from "../../src/platform/quotas/quota-days.js";
import { MemoryGate } from "../../src/reservation/memory/memory-gate.js";
import type { Gate } from "../../src/reservation/port.js";
import { RedisGate } from "../../src/reservation/redis/redis-gate.js";
import { listAuditRecords } from "../../src/services/audit/list-audit-records.js";
import { batchCreateCoupons } from "../../src/services/catalog/batch-create-coupons.js";
import { cancelCodeJob } from "../../src/services/catalog/cancel-code-job.js";
import { createCoupon, wrongInCoupon } from "../../src/services/catalog/create-coupon.js";
import { deleteCodes } from "../../src/services/catalog/delete-codes.js";
import { deleteCoupon } from "../../src/services/catalog/delete-coupon.js";
import { generateCodes } from "../../src/services/catalog/generate-codes.js";
import { getCodeJob } from "../../src/services/catalog/get-code-job.js";
import { getCoupon } from "../../src/services/catalog/get-coupon.js";
import { getStats } from "../../src/services/catalog/get-stats.js";
import { listCodeJobs } from "../../src/services/catalog/list-code-jobs.js";
import { listCodes } from "../../src/services/catalog/list-codes.js";
import { listCoupons } from "../../src/services/catalog/list-coupons.js";
import { pauseCoupon } from "../../src/services/catalog/pause-coupon.js";
import { resumeCoupon } from "../../src/services/catalog/resume-coupon.js";
import { searchCoupons } from "../../src/services/catalog/search-coupons.js";
import { updateCoupon } from "../../src/services/catalog/update-coupon.js";
import { uploadCodes } from "../../src/services/catalog/upload-codes.js";
import { listEvents } from "../../src/services/event/list-events.js";
import { watchEvents } from "../../src/services/event/watch-events.js";
import { batchIssueCoupons } from "../../src/services/issuance/batch-issue-coupons.js";
import { issueCoupon } from "../../src/services/issuance/issue-coupon.js";
import { cancelUsage } from "../../src/services/usage/cancel-usage.js";
import { getUsage } from "../../src/services/usage/get-usage.js";
import { listUsages } from "../../src/services/usage/list-usages.js";
import { lockCoupons } from "../../src/services/usage/lock-coupons.js";
import { quoteUsage } from "../../src/services/usage/quote-usage.js";
import { unlockCoupons } from "../../src/services/usage/unlock-coupons.js";
import { useCoupons } from "../../src/services/usage/use-coupons.js";
import { deleteUserCoupon } from "../../src/services/user-coupon/delete-user-coupon.js";
import { getUserCoupon } from "../../src/services/user-coupon/get-user-coupon.js";
import { listUserCoupons } from "../../src/services/user-coupon/list-user-coupons.js";
import { type Database, openDatabase } from "../../src/storage/postgres/database.js";
import { PostgresTargetStore } from "../../src/storage/postgres/issuing/target-store.js";
import { explain, messageOf } from "../../src/transport/error-table.js";
import { openEngines } from "../../src/wiring/engines.js";
import { openStores } from "../../src/wiring/stores.js";
import { type ClockedDatabase, openClockedDatabase } from "../integration/clocked-database.js";
import { type Mortal, type Part, startMortal } from "./mortal.js";
import { deletedCodesKeepHours, purgeAfterDays } from "./upkeep.js";
import { timeZone } from "./world.js";

export type GateName = "redis" | "memory";

/** Two replicas of the service on one Postgres and one gate, on clocks that a test moves. */
export interface Service {
  readonly clocked: ClockedDatabase;
  readonly gate: Gate;
  readonly replicas: readonly [Replica, Replica];
  /** Sets the clocks of both stores. Postgres' then stands still; the gate's runs on. */
  setClock(at: Date): Promise<void>;
  /** The same in the middle of what is at work: first of Postgres, for the gate is late rather than early. */
  jumpClock(at: Date): Promise<void>;
  /** Loads a coupon and its places into the gate, as another replica might at any time. */
  load(couponId: string): Promise<void>;
  /** Waits for the loads that the replicas have begun. */
  settled(): Promise<void>;
  /** Forgets all that is stored: a life begins with nothing. */
  clear(): Promise<void>;
  /** Redis loses its memory. A gate in this process cannot. */
  wipe(): Promise<void>;
  /** All connections of the replicas to Postgres are lost, and can be made anew. */
  cutPostgres(): Promise<void>;
  /** A further replica, which dies when it is told to: or it loses one of its stores for good. */
  startMortal(part: Part): Promise<Mortal>;
  /** The others find out what became of what a dead replica had reserved, as they do when that has run out. */
  passReservations(): Promise<void>;
  /** What went wrong behind the callers' backs. Must be empty. */
  readonly reported: unknown[];
  close(): Promise<void>;
}

export type Replica = ReturnType<typeof startReplica>;

/** Of each queue at once: more than there are connections for, so that some wait. */
const batches = { issue: 2, issueCode: 1, use: 2, lock: 2 };
/** Smaller than the service's, so that a handful of callers has batches side by side. */
const sideBatchSize = 3;
/** A session ends in so many ms at most. */
const cutMs = 5_000;
const maxWatchers = 2;
const ofUsers = ["user_coupons", "usages", "requests", "quota_days"];
const ofCoupons = ["codes", "code_jobs", "code_sources", "events", "coupon_search", "coupons"];
/** How long a reservation lasts. */
const reservationMs = 5_000;

type ServiceLog = FailureLogOptions["log"] & { info(details: object, message: string): void };

/** Of a replica that dies nobody reads the log. */
const silent: ServiceLog = { info: () => {}, warn: () => {}, error: () => {} };

/** The service as `app.ts` wires it, without front ends and timers. */
function startReplica(database: Database, gate: Gate, log: ServiceLog) {
  const stores = openStores(database, timeZone);
  const { coupons, codes, userCoupons, usages, targets } = stores;
  const failures = new FailureLog({ log });
  const keeper = new GateKeeper(gate, stores.issues, usages, log, failures);
  const queues = new Queues({
    onBatch: () => {},
    onAfterCommitError: (queue, error) => log.error({ err: error, queue }, "settling failed"),
    sideBatchSize,
  });
  const { issuer, typeIssuer, checkout, cancels } = openEngines({
    ...{ stores, gate, keeper, batches, reservationMs, failures, openQueue: queues.open },
    quotaDays: new QuotaDays(timeZone),
    clock: { nowMs: Date.now },
  });
  const invalidate = (couponId: string) => keeper.invalidate(couponId);
  const reader = new EventReader(stores.events);
  let feed: EventFeed | undefined;
  const codeGenerator = new CodeGenerator(codes, keeper, log, failures);
  const purger = (dryRun: boolean) =>
    new Purger(stores.purge, { afterDays: purgeAfterDays, deletedCodesKeepHours, everyMinutes: 60, dryRun }, log);
  return {
    keeper,
    releaser: new Releaser(userCoupons, keeper, log),
    codeGenerator,
    codeExpirer: new CodeExpirer(codes, keeper),
    expirer: new Expirer(userCoupons),
    purger: purger(false),
    dryPurger: purger(true),
    upload: uploadCodes(codes, invalidate),
    // A life says itself when codes are made.
    generate: generateCodes(codes, { kick: () => {} }),
    getCodeJob: getCodeJob(codes),
    cancelJob: cancelCodeJob(codes, invalidate),
    listJobs: listCodeJobs(codes),
    deleteCodes: deleteCodes(codes, invalidate),
    listCodes: listCodes(codes, coupons),
    getStats: getStats(stores.stats),
    batchIssue: batchIssueCoupons(issuer, explain, (error) => log.error({ err: error }, "issuing to one failed")),
    issueStore: stores.issues,
    create: createCoupon(coupons),
    createMany: batchCreateCoupons(coupons, wrongInCoupon, explain),
    getCoupon: getCoupon(coupons),
    update: updateCoupon(coupons, invalidate),
    delete: deleteCoupon(coupons, invalidate),
    pause: pauseCoupon(coupons, invalidate),
    resume: resumeCoupon(coupons, invalidate),
    issue: issueCoupon(issuer, typeIssuer, targets),
    /** As `issue` is when neither the code nor the coupons of the type were looked up a moment ago. */
    issuingAnew: () => {
      const freshStore = new PostgresTargetStore(database);
      return issueCoupon(issuer, new TypeIssuer(issuer, freshStore), freshStore);
    },
    getUserCoupon: getUserCoupon(userCoupons, usages),
    listUserCoupons: listUserCoupons(userCoupons, usages),
    deleteUserCoupon: deleteUserCoupon(userCoupons, keeper),
    quote: quoteUsage(checkout, usages, messageOf),
    lock: lockCoupons(checkout, usages),
    unlock: unlockCoupons(usages),
    use: useCoupons(checkout, usages),
    cancel: cancelUsage(cancels),
    listUsages: listUsages(usages),
    getUsage: getUsage(usages),
    listCoupons: listCoupons(coupons),
    searchCoupons: searchCoupons(stores.search),
    listRecords: listAuditRecords(stores.audit),
    listEvents: listEvents(reader),
    /** What was kept of the events of an earlier life, which nobody can know of, is not told in this one. */
    watchingAnew: () => {
      feed?.close();
      feed = new EventFeed(reader, failures);
      return watchEvents(new Watchers(feed, maxWatchers), feed, reader);
    },
    /** A load that straddles a jump of time would see the two clocks apart; gate-keeper.test.ts has what must hold then. */
    settled: () => Promise.all((keeper as unknown as { loads: Map<string, Promise<void>> }).loads.values()),
    /** Which coupons of a type can be issued is remembered for a moment, by a clock that does not jump. */
    forgetTypes: () => typeIssuer.forget(),
    close: async () => {
      feed?.close();
      await queues.drain();
      await keeper.close();
    },
  };
}

export async function startService(gateName: GateName): Promise<Service> {
  const clocked = await openClockedDatabase(new Date(), 12);
  const second = openDatabase({ url: clocked.stores.databaseUrl, poolSize: 12 });
  // See issue-store.test.ts for what may be the first query.
  for (const { reads } of [clocked.database, second]) {
    await reads.run(Number.POSITIVE_INFINITY, ({ sql }) => sql`SELECT 1`);
  }
  const reported: unknown[] = [];
  const log = { info: () => {}, warn: () => {}, error: (details: unknown) => void reported.push(details) };
  const failures = new FailureLog({ log });
  let offsetMs = 0;
  const quotas = {
    quotaDays: new QuotaDays(timeZone),
    quotaGroupOf: (couponId: string) => openStores(second, timeZone).issues.quotaGroupOf(couponId),
  };
  const { redisUrl, keyPrefix } = clocked.stores;
  // So that a sweep looks at whatever has changed, however little time has passed.
  const pauses = { announceMs: 0 };
  const redisGate = (url = redisUrl, noted = failures) =>
    new RedisGate({ url, keyPrefix, failures: noted, clockOffsetMs: () => offsetMs, pauses, ...quotas });
  // Each replica has its own way to Redis; the memory of one process is all that both have in common.
  const gate =
    gateName === "redis" ? redisGate() : new MemoryGate({ now: () => Date.now() + offsetMs, pauses, ...quotas });
  const otherGate = gateName === "redis" ? redisGate() : gate;
  for (const one of [gate, otherGate])
    if (one instanceof RedisGate && !(await one.ready())) throw new Error("no redis");
  const redis = gateName === "redis" ? new Redis(redisUrl) : null;
  const replicas = [startReplica(clocked.database, gate, log), startReplica(second, otherGate, log)] as const;
  const { issueStore } = replicas[0];
  const settled = async () => void (await Promise.all(replicas.map((replica) => replica.settled())));
  const jumpClock = async (at: Date) => {
    await clocked.setClock(at);
    offsetMs = at.getTime() - Date.now();
    for (const replica of replicas) replica.forgetTypes();
  };
  return {
    clocked,
    gate,
    replicas,
    settled,
    setClock: async (at) => {
      await settled();
      await jumpClock(at);
    },
    jumpClock,
    load: async (couponId) => {
      const loading = await gate.beginLoad(couponId);
      const facts = loading && (await issueStore.readGate(couponId, (holdings) => loading.addHoldings(holdings)));
      if (loading && facts) await loading.install(facts);
      const stock = (await issueStore.readCounts([couponId])).get(couponId);
      if (!stock || stock.remainingPlaces === null) return;
      await gate.loadPlaces(couponId, { revision: stock.revision, remaining: stock.remainingPlaces });
    },
    clear: async () => {
      const { sql } = clocked;
      for (const table of [...ofUsers, ...ofCoupons]) await sql`DELETE FROM ${sql(table)}`;
    },
    wipe: async () => {
      if (!redis) return;
      // At once, as a server loses its memory.
      await redis.eval(
        "for _, key in ipairs(redis.call('KEYS', ARGV[1])) do redis.call('DEL', key) end",
        0,
        `*${keyPrefix}*`,
      );
    },
    cutPostgres: async () => {
      await clocked.sql`
        SELECT pg_terminate_backend(pid, ${cutMs}) FROM pg_stat_activity
        WHERE datname = current_database() AND application_name = 'coupon-service'`;
      // The sessions are over by then; so that their sockets are here, too.
      for (let turn = 0; turn < 3; turn++) await new Promise(setImmediate);
    },
    startMortal: (part) => {
      const { databaseUrl } = clocked.stores;
      const openOwnGate = (url: string) => redisGate(url, new FailureLog({ log: silent }));
      return startMortal(part, {
        ...{ databaseUrl, redisUrl },
        openGate: async (url) => (gateName === "redis" ? openOwnGate(url) : gate),
        start: (database, itsGate) => startReplica(database, itsGate, silent),
        close: async (itsGate) => void (itsGate !== gate && (await itsGate.close())),
      });
    },
    passReservations: async () => {
      await settled();
      offsetMs += reservationMs + 1;
      for (const { keeper } of replicas) await keeper.sweep();
      await settled();
      // What begins or ends on the next step has not done so.
      offsetMs -= reservationMs + 1;
    },
    reported,
    close: async () => {
      for (const replica of replicas) await replica.close();
      await gate.close();
      if (otherGate !== gate) await otherGate.close();
      redis?.disconnect();
      await second.close();
      await clocked.close();
    },
  };
}
