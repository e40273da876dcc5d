import { Redis } from "ioredis";
import { QuotaDays } from "../../src/platform/quota-days.js";
import { MemoryReservations } from "../../src/reservation/memory/memory-reservations.js";
import type { Reservations } from "../../src/reservation/port.js";
import { RedisReservations } from "../../src/reservation/redis/redis-reservations.js";
import { CodeMaker } from "../../src/services/catalog/code-maker.js";
import { CodeRetirer } from "../../src/services/catalog/code-retirer.js";
import { createCoupon } from "../../src/services/catalog/create-coupon.js";
import { deleteCoupon } from "../../src/services/catalog/delete-coupon.js";
import { generateCodes } from "../../src/services/catalog/generate-codes.js";
import { getCodeJob } from "../../src/services/catalog/get-code-job.js";
import { getCoupon } from "../../src/services/catalog/get-coupon.js";
import { getStats } from "../../src/services/catalog/get-stats.js";
import { listCodes } from "../../src/services/catalog/list-codes.js";
import { pauseCoupon } from "../../src/services/catalog/pause-coupon.js";
import { resumeCoupon } from "../../src/services/catalog/resume-coupon.js";
import { updateCoupon } from "../../src/services/catalog/update-coupon.js";
import { uploadCodes } from "../../src/services/catalog/upload-codes.js";
import { batchIssueCoupons } from "../../src/services/issuance/batch-issue-coupons.js";
import { GateKeeper, type GateKeeperLog } from "../../src/services/issuance/gate-keeper.js";
import { issueCoupon } from "../../src/services/issuance/issue-coupon.js";
import { Issuer, type QueuedAsk, settleBatch } from "../../src/services/issuance/issuer.js";
import { TypeIssuer } from "../../src/services/issuance/type-issuer.js";
import { cancelUsage, keysOfCancel, settleCancels } from "../../src/services/usage/cancel-usage.js";
import type { Queue } from "../../src/services/usage/checkout.js";
import { Checkout, settleUses } from "../../src/services/usage/checkout.js";
import { listUsages } from "../../src/services/usage/list-usages.js";
import { lockCoupons } from "../../src/services/usage/lock-coupons.js";
import { quoteUsage } from "../../src/services/usage/quote-usage.js";
import { unlockCoupons } from "../../src/services/usage/unlock-coupons.js";
import { useCoupons } from "../../src/services/usage/use-coupons.js";
import { deleteUserCoupon } from "../../src/services/user-coupon/delete-user-coupon.js";
import { getUserCoupon } from "../../src/services/user-coupon/get-user-coupon.js";
import { Lapser } from "../../src/services/user-coupon/lapser.js";
import { listUserCoupons } from "../../src/services/user-coupon/list-user-coupons.js";
import { Purger } from "../../src/services/user-coupon/purger.js";
import { Releaser } from "../../src/services/user-coupon/releaser.js";
import type {
  CancelAsk,
  CancelOutcome,
  ChoiceAsk,
  IssueOutcome,
  LockAsk,
  LockOutcome,
  UseAsk,
  UseOutcome,
} from "../../src/storage/ports.js";
import { PostgresCodeStore } from "../../src/storage/postgres/code-store.js";
import { PostgresCouponStore } from "../../src/storage/postgres/coupon-store.js";
import { type Database, openDatabase } from "../../src/storage/postgres/database.js";
import { GroupCommit, type GroupCommitOptions } from "../../src/storage/postgres/group-commit.js";
import { PostgresIssueStore } from "../../src/storage/postgres/issue-store.js";
import { PostgresPurgeStore } from "../../src/storage/postgres/purge-store.js";
import { PostgresStatsStore } from "../../src/storage/postgres/stats-store.js";
import { PostgresTargetStore } from "../../src/storage/postgres/target-store.js";
import { PostgresUsageStore } from "../../src/storage/postgres/usage-store.js";
import { PostgresUserCouponStore } from "../../src/storage/postgres/user-coupon-store.js";
import { explain, messageOf } from "../../src/transport/error-table.js";
import { type ClockedDatabase, openClockedDatabase } from "../integration/clocked-database.js";
import { purgeAfterDays } from "./upkeep.js";
import { timeZone } from "./world.js";

export type GateName = "redis" | "memory";

/** Two replicas of the service on one Postgres and one gate, on clocks that a test moves. */
export interface Service {
  readonly clocked: ClockedDatabase;
  readonly reservations: Reservations;
  readonly replicas: readonly [Replica, Replica];
  /** Sets the clocks of both stores. Postgres' then stands still; the gate's runs on. */
  setClock(at: Date): Promise<void>;
  /** Loads a coupon and its places into the gate, as another replica might at any time. */
  load(couponId: string): Promise<void>;
  /** Waits for the loads that the replicas have begun. */
  settled(): Promise<void>;
  /** Forgets all that is stored: a life begins with nothing. */
  clear(): Promise<void>;
  /** Redis loses its memory. A gate in this process cannot. */
  wipe(): Promise<void>;
  /** What went wrong behind the callers' backs. Must be empty. */
  readonly reported: unknown[];
  close(): Promise<void>;
}

export type Replica = ReturnType<typeof startReplica>;

/** The service as `app.ts` wires it, without front ends and timers. */
/** Of each queue at once: more than there are connections for, so that some wait. */
const batchesPerQueue = 2;

function startReplica(database: Database, reservations: Reservations, log: GateKeeperLog) {
  const couponStore = new PostgresCouponStore(database);
  const userCouponStore = new PostgresUserCouponStore(database);
  const issueStore = new PostgresIssueStore(database, timeZone);
  const usageStore = new PostgresUsageStore(database);
  const keeper = new GateKeeper(reservations, issueStore, usageStore, log);
  const queues: { drain(): Promise<void> }[] = [];
  const queueOf = <Ask, Outcome>(
    options: Pick<GroupCommitOptions<Ask, Outcome>, "commit"> & Partial<GroupCommitOptions<Ask, Outcome>>,
  ): Queue<Ask, Outcome> => {
    const queue = new GroupCommit<Ask, Outcome>({
      afterCommit: async () => {},
      onAfterCommitError: (error) => log.error({ err: error }, "settling failed"),
      keysOf: () => [],
      maxBatchSize: 256,
      maxBatches: batchesPerQueue,
      // Smaller than in app.ts, so that a handful of callers has batches side by side.
      sideBatchSize: 3,
      maxWaiting: 10_000,
      ...options,
    });
    queues.push(queue);
    return queue;
  };
  const issueQueueOf = (maxBatches: number) =>
    queueOf<QueuedAsk, IssueOutcome>({
      maxBatches,
      commit: (asks, again) => issueStore.issueBatch(asks, again),
      afterCommit: (asks, outcomes) => settleBatch(reservations, keeper, asks, outcomes),
      keysOf: (ask) => [`u ${ask.couponId} ${ask.userId}`, ...(ask.requestId ? [`r ${ask.requestId}`] : [])],
    });
  const [issues, codeIssues] = [issueQueueOf(batchesPerQueue), issueQueueOf(1)];
  const uses = queueOf<UseAsk, UseOutcome>({
    commit: (asks, again) => usageStore.useBatch(asks, { again, together: false }),
    afterCommit: (asks, outcomes) => settleUses(reservations, keeper, asks, outcomes),
    keysOf: (ask) => (ask.requestId ? [ask.requestId] : []),
  });
  const locks = queueOf<LockAsk, LockOutcome>({ commit: (asks) => usageStore.lockBatch(asks, { together: false }) });
  const cancels = queueOf<CancelAsk, CancelOutcome>({
    commit: (asks, again) => usageStore.cancelBatch(asks, again),
    afterCommit: (_, outcomes) => settleCancels(keeper, outcomes),
    keysOf: keysOfCancel,
  });
  const reads = queueOf({ commit: (asks: readonly ChoiceAsk[]) => usageStore.readChosen(asks), maxBatches: 1 });
  const targetStore = new PostgresTargetStore(database);
  const issuer = new Issuer(
    reservations,
    keeper,
    { any: issues, code: codeIssues },
    userCouponStore,
    new QuotaDays(timeZone),
    5_000,
  );
  const checkout = new Checkout(usageStore, { reads, uses, locks }, reservations, keeper, 5_000);
  const renew = (couponId: string) => keeper.forget(couponId);
  const codeStore = new PostgresCodeStore(database);
  const codeMaker = new CodeMaker(codeStore, keeper, log);
  const purger = (dryRun: boolean) =>
    new Purger(new PostgresPurgeStore(database), { afterDays: purgeAfterDays, everyMinutes: 60, dryRun }, log);
  return {
    keeper,
    releaser: new Releaser(userCouponStore, keeper, log),
    codeMaker,
    codeRetirer: new CodeRetirer(codeStore, keeper, log),
    lapser: new Lapser(userCouponStore, log),
    purger: purger(false),
    dryPurger: purger(true),
    upload: uploadCodes(codeStore, renew),
    // A life says itself when codes are made.
    generate: generateCodes(codeStore, { kick: () => {} }),
    getCodeJob: getCodeJob(codeStore),
    listCodes: listCodes(codeStore, couponStore),
    getStats: getStats(new PostgresStatsStore(database)),
    batchIssue: batchIssueCoupons(issuer, explain, (error) => log.error({ err: error }, "issuing to one failed")),
    issueStore,
    create: createCoupon(couponStore),
    getCoupon: getCoupon(couponStore),
    update: updateCoupon(couponStore, renew),
    delete: deleteCoupon(couponStore, renew),
    pause: pauseCoupon(couponStore, renew),
    resume: resumeCoupon(couponStore, renew),
    issue: issueCoupon(issuer, new TypeIssuer(issuer, targetStore), targetStore),
    /** As `issue` is when neither the code nor the coupons of the type were looked up a moment ago. */
    issueAnew: (...call: Parameters<ReturnType<typeof issueCoupon>>) => {
      const freshStore = new PostgresTargetStore(database);
      return issueCoupon(issuer, new TypeIssuer(issuer, freshStore), freshStore)(...call);
    },
    getUserCoupon: getUserCoupon(userCouponStore, usageStore),
    listUserCoupons: listUserCoupons(userCouponStore, usageStore),
    deleteUserCoupon: deleteUserCoupon(userCouponStore, keeper),
    quote: quoteUsage(checkout, usageStore, messageOf),
    lock: lockCoupons(checkout, usageStore),
    unlock: unlockCoupons(usageStore),
    use: useCoupons(checkout, usageStore),
    cancel: cancelUsage(cancels),
    listUsages: listUsages(usageStore),
    /** A load that straddles a jump of time would see the two clocks apart; gate-keeper.test.ts has what must hold then. */
    settled: () => Promise.all((keeper as unknown as { loads: Map<string, Promise<void>> }).loads.values()),
    close: async () => {
      await Promise.all(queues.map((queue) => queue.drain()));
      await keeper.close();
    },
  };
}

export async function startService(gate: GateName): Promise<Service> {
  const clocked = await openClockedDatabase(new Date(), 12);
  const second = openDatabase({ url: clocked.stores.databaseUrl, poolSize: 12 });
  // See issue-store.test.ts for what may be the first query.
  for (const { reads } of [clocked.database, second]) {
    await reads.run(Number.POSITIVE_INFINITY, ({ sql }) => sql`SELECT 1`);
  }
  const reported: unknown[] = [];
  const log = { info: () => {}, warn: () => {}, error: (details: unknown) => void reported.push(details) };
  let offsetMs = 0;
  const quotas = {
    quotaDays: new QuotaDays(timeZone),
    quotaGroupOf: (couponId: string) => new PostgresIssueStore(second).quotaGroupOf(couponId),
  };
  const { redisUrl, keyPrefix } = clocked.stores;
  const reservations =
    gate === "redis"
      ? new RedisReservations({ url: redisUrl, keyPrefix, log, clockOffsetMs: () => offsetMs, ...quotas })
      : new MemoryReservations({ now: () => Date.now() + offsetMs, ...quotas });
  if (reservations instanceof RedisReservations && !(await reservations.ready())) throw new Error("no redis");
  const redis = gate === "redis" ? new Redis(redisUrl) : null;
  const replicas = [
    startReplica(clocked.database, reservations, log),
    startReplica(second, reservations, log),
  ] as const;
  const { issueStore } = replicas[0];
  const settled = async () => void (await Promise.all(replicas.map((replica) => replica.settled())));
  return {
    clocked,
    reservations,
    replicas,
    settled,
    setClock: async (at) => {
      await settled();
      offsetMs = at.getTime() - Date.now();
      await clocked.setClock(at);
    },
    load: async (couponId) => {
      const loading = await reservations.beginLoad(couponId);
      const facts = loading && (await issueStore.readGate(couponId, (holders) => loading.addHolders(holders)));
      if (loading && facts) await loading.install(facts);
      const stock = (await issueStore.readStock([couponId])).get(couponId);
      if (!stock || stock.remainingPlaces === null) return;
      await reservations.loadPlaces(couponId, { revision: stock.revision, remaining: stock.remainingPlaces });
    },
    clear: async () => {
      const { sql } = clocked;
      for (const table of [
        "user_coupons",
        "codes",
        "code_jobs",
        "usages",
        "events",
        "requests",
        "quota_days",
        "coupons",
      ])
        await sql`DELETE FROM ${sql(table)}`;
    },
    wipe: async () => {
      if (!redis) return;
      await settled();
      const keys = await redis.keys(`*${keyPrefix}*`);
      if (keys.length > 0) await redis.del(...keys);
    },
    reported,
    close: async () => {
      for (const replica of replicas) await replica.close();
      await reservations.close();
      redis?.disconnect();
      await second.close();
      await clocked.close();
    },
  };
}
