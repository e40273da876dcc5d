import { MemoryReservations } from "../../src/reservation/memory/memory-reservations.js";
import type { Reservations } from "../../src/reservation/port.js";
import { RedisReservations } from "../../src/reservation/redis/redis-reservations.js";
import { createCoupon } from "../../src/services/catalog/create-coupon.js";
import { deleteCoupon } from "../../src/services/catalog/delete-coupon.js";
import { pauseCoupon } from "../../src/services/catalog/pause-coupon.js";
import { resumeCoupon } from "../../src/services/catalog/resume-coupon.js";
import { updateCoupon } from "../../src/services/catalog/update-coupon.js";
import { GateKeeper } from "../../src/services/issuance/gate-keeper.js";
import { issueCoupon } from "../../src/services/issuance/issue-coupon.js";
import { Issuer, type QueuedAsk, settleBatch } from "../../src/services/issuance/issuer.js";
import { getUserCoupon } from "../../src/services/user-coupon/get-user-coupon.js";
import type { IssueOutcome } from "../../src/storage/ports.js";
import { PostgresCouponStore } from "../../src/storage/postgres/coupon-store.js";
import { commitConnections } from "../../src/storage/postgres/database.js";
import { GroupCommit } from "../../src/storage/postgres/group-commit.js";
import { PostgresIssueStore } from "../../src/storage/postgres/issue-store.js";
import { PostgresUserCouponStore } from "../../src/storage/postgres/user-coupon-store.js";
import { type ClockedDatabase, openClockedDatabase } from "../integration/clocked-database.js";

export type GateName = "redis" | "memory";

/** The service as `app.ts` wires it, without front ends and timers, on a clock that a test moves. */
export interface Service {
  readonly clocked: ClockedDatabase;
  readonly reservations: Reservations;
  readonly keeper: GateKeeper;
  readonly store: PostgresIssueStore;
  readonly create: ReturnType<typeof createCoupon>;
  readonly update: ReturnType<typeof updateCoupon>;
  readonly delete: ReturnType<typeof deleteCoupon>;
  readonly pause: ReturnType<typeof pauseCoupon>;
  readonly resume: ReturnType<typeof resumeCoupon>;
  readonly issue: ReturnType<typeof issueCoupon>;
  readonly getUserCoupon: ReturnType<typeof getUserCoupon>;
  /** Sets the clocks of both stores. Postgres' then stands still; the gate's runs on. */
  setClock(at: Date): Promise<void>;
  /** Loads a coupon into the gate, as another replica might at any time. */
  load(couponId: string): Promise<void>;
  /** What went wrong behind the callers' backs. Must be empty. */
  readonly reported: unknown[];
  close(): Promise<void>;
}

export async function startService(gate: GateName): Promise<Service> {
  const clocked = await openClockedDatabase(new Date(), 12);
  const { database, stores } = clocked;
  // See issue-store.test.ts for what may be the first query.
  await database.sql`SELECT 1`;
  const reported: unknown[] = [];
  const log = { info: () => {}, warn: () => {}, error: (details: unknown) => void reported.push(details) };
  let offsetMs = 0;
  const reservations =
    gate === "redis"
      ? new RedisReservations({
          url: stores.redisUrl,
          keyPrefix: stores.keyPrefix,
          log,
          clockOffsetMs: () => offsetMs,
        })
      : new MemoryReservations({ now: () => Date.now() + offsetMs });
  if (reservations instanceof RedisReservations && !(await reservations.ready())) throw new Error("no redis");

  const couponStore = new PostgresCouponStore(database);
  const userCouponStore = new PostgresUserCouponStore(database);
  const store = new PostgresIssueStore(database);
  const keeper = new GateKeeper(reservations, store, log);
  const queue = new GroupCommit<QueuedAsk, IssueOutcome>({
    commit: (asks) => store.issueBatch(asks),
    afterCommit: (asks, outcomes) => settleBatch(reservations, keeper, asks, outcomes),
    onAfterCommitError: (error) => reported.push(error),
    keysOf: (ask) => [`u ${ask.couponId} ${ask.userId}`, ...(ask.requestId ? [`r ${ask.requestId}`] : [])],
    maxBatchSize: 256,
    maxBatches: commitConnections,
    // Smaller than in app.ts, so that a handful of callers has batches side by side.
    sideBatchSize: 3,
    maxWaiting: 10_000,
  });
  const issuer = new Issuer(reservations, keeper, queue, userCouponStore);
  const renew = (couponId: string) => reservations.invalidate(couponId).catch(() => {});
  return {
    clocked,
    reservations,
    keeper,
    store,
    create: createCoupon(couponStore),
    update: updateCoupon(couponStore, renew),
    delete: deleteCoupon(couponStore, renew),
    pause: pauseCoupon(couponStore, renew),
    resume: resumeCoupon(couponStore, renew),
    issue: issueCoupon(issuer),
    getUserCoupon: getUserCoupon(userCouponStore),
    setClock: async (at) => {
      // A load that straddles a jump would see the two clocks apart; gate-keeper.test.ts has what must hold all the same.
      await Promise.all((keeper as unknown as { loads: Map<string, Promise<void>> }).loads.values());
      offsetMs = at.getTime() - Date.now();
      await clocked.setClock(at);
    },
    load: async (couponId) => {
      const loading = await reservations.beginLoad(couponId);
      const facts = loading && (await store.readGate(couponId, (holders) => loading.addHolders(holders)));
      if (loading && facts) await loading.install(facts);
    },
    reported,
    close: async () => {
      await queue.drain();
      await keeper.close();
      await reservations.close();
      await clocked.close();
    },
  };
}
