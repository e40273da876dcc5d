import { QuotaDays } from "../../src/platform/quota-days.js";
import { MemoryReservations } from "../../src/reservation/memory/memory-reservations.js";
import type { Reservations } from "../../src/reservation/port.js";
import { RedisReservations } from "../../src/reservation/redis/redis-reservations.js";
import { createCoupon } from "../../src/services/catalog/create-coupon.js";
import { deleteCoupon } from "../../src/services/catalog/delete-coupon.js";
import { getCoupon } from "../../src/services/catalog/get-coupon.js";
import { pauseCoupon } from "../../src/services/catalog/pause-coupon.js";
import { resumeCoupon } from "../../src/services/catalog/resume-coupon.js";
import { updateCoupon } from "../../src/services/catalog/update-coupon.js";
import { GateKeeper, type GateKeeperLog } from "../../src/services/issuance/gate-keeper.js";
import { issueCoupon } from "../../src/services/issuance/issue-coupon.js";
import { Issuer, type QueuedAsk, settleBatch } from "../../src/services/issuance/issuer.js";
import { TypeIssuer } from "../../src/services/issuance/type-issuer.js";
import { cancelUsage } from "../../src/services/usage/cancel-usage.js";
import type { Queue } from "../../src/services/usage/checkout.js";
import { Checkout, settleUses } from "../../src/services/usage/checkout.js";
import { listUsages } from "../../src/services/usage/list-usages.js";
import { lockCoupons } from "../../src/services/usage/lock-coupons.js";
import { quoteUsage } from "../../src/services/usage/quote-usage.js";
import { unlockCoupons } from "../../src/services/usage/unlock-coupons.js";
import { useCoupons } from "../../src/services/usage/use-coupons.js";
import { deleteUserCoupon } from "../../src/services/user-coupon/delete-user-coupon.js";
import { getUserCoupon } from "../../src/services/user-coupon/get-user-coupon.js";
import { listUserCoupons } from "../../src/services/user-coupon/list-user-coupons.js";
import { Releaser } from "../../src/services/user-coupon/releaser.js";
import type { ChoiceAsk, IssueOutcome, LockAsk, LockOutcome, UseAsk, UseOutcome } from "../../src/storage/ports.js";
import { PostgresCouponStore } from "../../src/storage/postgres/coupon-store.js";
import { commitsPerQueue, type Database, openDatabase } from "../../src/storage/postgres/database.js";
import { GroupCommit, type GroupCommitOptions } from "../../src/storage/postgres/group-commit.js";
import { PostgresIssueStore } from "../../src/storage/postgres/issue-store.js";
import { PostgresTargetStore } from "../../src/storage/postgres/target-store.js";
import { PostgresUsageStore } from "../../src/storage/postgres/usage-store.js";
import { PostgresUserCouponStore } from "../../src/storage/postgres/user-coupon-store.js";
import { messageOf } from "../../src/transport/error-table.js";
import { type ClockedDatabase, openClockedDatabase } from "../integration/clocked-database.js";

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
  /** What went wrong behind the callers' backs. Must be empty. */
  readonly reported: unknown[];
  close(): Promise<void>;
}

export type Replica = ReturnType<typeof startReplica>;

/** The service as `app.ts` wires it, without front ends and timers. */
function startReplica(database: Database, reservations: Reservations, log: GateKeeperLog) {
  const couponStore = new PostgresCouponStore(database);
  const userCouponStore = new PostgresUserCouponStore(database);
  const issueStore = new PostgresIssueStore(database);
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
      maxBatches: commitsPerQueue,
      // Smaller than in app.ts, so that a handful of callers has batches side by side.
      sideBatchSize: 3,
      maxWaiting: 10_000,
      ...options,
    });
    queues.push(queue);
    return queue;
  };
  const issues = queueOf<QueuedAsk, IssueOutcome>({
    commit: (asks, again) => issueStore.issueBatch(asks, again),
    afterCommit: (asks, outcomes) => settleBatch(reservations, keeper, asks, outcomes),
    keysOf: (ask) => [`u ${ask.couponId} ${ask.userId}`, ...(ask.requestId ? [`r ${ask.requestId}`] : [])],
  });
  const uses = queueOf<UseAsk, UseOutcome>({
    commit: (asks, again) => usageStore.useBatch(asks, { again, together: false }),
    afterCommit: (asks, outcomes) => settleUses(reservations, keeper, asks, outcomes),
    keysOf: (ask) => (ask.requestId ? [ask.requestId] : []),
  });
  const locks = queueOf<LockAsk, LockOutcome>({ commit: (asks) => usageStore.lockBatch(asks, { together: false }) });
  const reads = queueOf({ commit: (asks: readonly ChoiceAsk[]) => usageStore.readChosen(asks), maxBatches: 1 });
  const targetStore = new PostgresTargetStore(database);
  const issuer = new Issuer(
    reservations,
    keeper,
    { any: issues, code: issues },
    userCouponStore,
    new QuotaDays("UTC"),
    5_000,
  );
  const checkout = new Checkout(usageStore, { reads, uses, locks }, reservations, keeper, 5_000);
  const renew = (couponId: string) => keeper.forget(couponId);
  return {
    keeper,
    releaser: new Releaser(userCouponStore, keeper, log),
    issueStore,
    create: createCoupon(couponStore),
    getCoupon: getCoupon(couponStore),
    update: updateCoupon(couponStore, renew),
    delete: deleteCoupon(couponStore, renew),
    pause: pauseCoupon(couponStore, renew),
    resume: resumeCoupon(couponStore, renew),
    issue: issueCoupon(issuer, new TypeIssuer(issuer, targetStore), targetStore),
    getUserCoupon: getUserCoupon(userCouponStore, usageStore),
    listUserCoupons: listUserCoupons(userCouponStore, usageStore),
    deleteUserCoupon: deleteUserCoupon(userCouponStore, keeper),
    quote: quoteUsage(checkout, usageStore, messageOf),
    lock: lockCoupons(checkout, usageStore),
    unlock: unlockCoupons(usageStore),
    use: useCoupons(checkout, usageStore),
    cancel: cancelUsage(usageStore, keeper),
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
  for (const { sql } of [clocked.database, second]) await sql`SELECT 1`;
  const reported: unknown[] = [];
  const log = { info: () => {}, warn: () => {}, error: (details: unknown) => void reported.push(details) };
  let offsetMs = 0;
  const { redisUrl, keyPrefix } = clocked.stores;
  const reservations =
    gate === "redis"
      ? new RedisReservations({ url: redisUrl, keyPrefix, log, clockOffsetMs: () => offsetMs })
      : new MemoryReservations({ now: () => Date.now() + offsetMs });
  if (reservations instanceof RedisReservations && !(await reservations.ready())) throw new Error("no redis");
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
    reported,
    close: async () => {
      for (const replica of replicas) await replica.close();
      await reservations.close();
      await second.close();
      await clocked.close();
    },
  };
}
