import { randomUUID } from "node:crypto";
import { Redis } from "ioredis";
import { afterAll, beforeAll, beforeEach, expect, onTestFinished, test } from "vitest";
import { type EmbeddedServers, startEmbedded } from "../../embedded/embedded.js";
import { RedisGate } from "../../src/reservation/redis/redis-gate.js";
import type { GrpcClient } from "../support/clients.js";
import type { ReplicaProcess } from "../support/replica.js";
import { twoProcesses } from "../support/service.js";
import type { TestStores } from "../support/stores.js";
import { unreported } from "../support/unreported.js";
import { until } from "../support/until.js";
import {
  createCappedCoupon,
  lostUsages,
  type Purchase,
  type Purchased,
  purchaseAll,
  refusedButUsed,
  sized,
  storedUses,
  useOnce,
} from "./checkout.js";
import { Audit, issueToAll, wants } from "./crowd.js";

const longMs = 300_000;
/** Much longer than a place is held for nobody: only what never comes back takes so long. */
const longestWaitMs = 60_000;
const passingKinds = /^(14|4) /;

let own: EmbeddedServers;
let redisUrl: string;
let stores: TestStores;
let audit: Audit;
let survivor: ReplicaProcess;
let victim: ReplicaProcess;
let clients: readonly GrpcClient[];

beforeAll(async () => {
  // A Redis of its own: here it is emptied and killed.
  own = await startEmbedded({ servers: ["redis"] });
  if (!own.redisUrl) throw new Error(`the tests need a real Redis: ${own.redisUnavailable}`);
  redisUrl = own.redisUrl;
});
afterAll(async () => {
  await stopService();
  await own?.stop();
});

const atEnd: (() => Promise<void>)[] = [];
async function stopService(): Promise<void> {
  for (const act of atEnd.splice(0).reverse()) await act();
}
const runs = ({ process: { exitCode, signalCode } }: ReplicaProcess) => exitCode === null && signalCode === null;

/** One service for as many tests as both of its replicas outlive. */
beforeEach(async () => {
  if (atEnd.length > 0 && runs(survivor) && runs(victim)) return;
  await stopService();
  const service = await twoProcesses((act) => void atEnd.push(act), { redisUrl });
  ({ stores, clients } = service);
  audit = new Audit(service.sql);
  [survivor, victim] = service.replicas;
});

async function purchasesOf(couponId: string, count: number): Promise<Purchase[]> {
  const list = wants(couponId, "user", count);
  const { acknowledged } = await issueToAll(list, { clients, inFlight: 300 });
  return list.map(({ userId }) => ({
    userId,
    userCouponId: acknowledged.get(`${couponId} ${userId}`) as string,
    // The service, and with it the orders of its users, outlive a test.
    orderId: `order of ${userId} ${couponId}`,
    requestId: randomUUID(),
  }));
}

/** Runs `act` once the count has reached the mark. */
const once = (mark: number, act: () => unknown) => {
  let done = false;
  return (count: number) => {
    if (done || count < mark) return;
    done = true;
    return act();
  };
};

/** Those who were refused try again, as they would: places that were held for nobody must come back. */
async function useTheRest(couponId: string, cap: number, refused: readonly Purchase[], through: readonly GrpcClient[]) {
  let waiting = [...refused];
  await until(
    `all ${cap} places are used`,
    async () => {
      const { placeCount } = await storedUses(audit, couponId);
      if (placeCount >= cap) return true;
      const tried = waiting.slice(0, cap - placeCount);
      const again = await purchaseAll(tried, { clients: through, inFlight: 50 });
      waiting = waiting.filter(({ orderId }) => !again.usages.has(orderId));
      return false;
    },
    longestWaitMs,
  );
}

/** Everybody uses what only some can, as many at once as told; in the end every place is used, once. */
async function rush(
  cap: number,
  holders: number,
  onUsed: (count: number) => void,
  through: () => readonly GrpcClient[] = () => clients,
  { inFlight = Math.ceil(cap / 2), timeoutMs = 8_000 } = {},
): Promise<Purchased> {
  const couponId = await createCappedCoupon(survivor.client, { usageCap: cap });
  const purchases = await purchasesOf(couponId, holders);
  const result = await purchaseAll(purchases, { clients, inFlight, timeoutMs, onUsed });
  expect(await lostUsages(audit, couponId, result)).toEqual([]);
  expect(await refusedButUsed(audit, couponId, result)).toEqual([]);
  expect([...result.refused.keys()]).toEqual(["USAGE_CAP_REACHED"]);
  expect([...result.passing.keys()].filter((kind) => !passingKinds.test(kind))).toEqual([]);
  await useTheRest(couponId, cap, result.refused.get("USAGE_CAP_REACHED") ?? [], through());
  expect(await storedUses(audit, couponId)).toEqual({
    ...{ usedCount: cap, placeCount: cap, exhausted: true, standing: cap, made: cap, useCounts: cap, placeCounts: cap },
    ...{ wrong: 0, revoked: holders - cap, useEvents: cap, cancelEvents: 0, cancelledTwice: 0 },
  });
  await untilPlacesAreEven(couponId, 0);
  return result;
}

async function withGate<T>(work: (gate: RedisGate) => Promise<T>): Promise<T> {
  const gate = new RedisGate({ url: redisUrl, keyPrefix: stores.keyPrefix, failures: unreported });
  try {
    await gate.ready();
    return await work(gate);
  } finally {
    await gate.close();
  }
}

/** Waits until Redis holds no place for anybody, and counts what is left as Postgres does. */
async function untilPlacesAreEven(couponId: string, remaining: number): Promise<void> {
  await withGate((gate) =>
    until("Redis counts what Postgres counts", async () => {
      const survey = (await gate.survey(100, 10)).find((one) => one.couponId === couponId);
      if (survey && (survey.takenCount > 0 || (survey.places && survey.places.remaining !== remaining))) {
        throw new Error(JSON.stringify(survey));
      }
      return true;
    }),
  );
}

const rushSize = () => [sized(40, 1_000), sized(200, 5_000)] as const;

test(
  "more holders than places use all at once: as many uses as places, and the others are REVOKED",
  async () => {
    const [cap, holders] = rushSize();
    const { usages, refused, passing } = await rush(cap, holders, () => {}, undefined, {
      inFlight: holders,
      timeoutMs: 28_000,
    });
    // Nobody was told no too early, either.
    expect(usages.size).toBe(cap);
    expect(refused.get("USAGE_CAP_REACHED")).toHaveLength(holders - cap);
    // So many at once may be more than there are permits or time for: then some are told to come again, and nothing else.
    expect([...passing.keys()].filter((kind) => kind !== "14 OVERLOADED" && !kind.startsWith("4 "))).toEqual([]);
  },
  longMs,
);

test(
  "Redis is emptied twice in the middle of it",
  async () => {
    const admin = new Redis(redisUrl);
    onTestFinished(() => admin.disconnect());
    const [cap, holders] = rushSize();
    let flushes = 0;
    const flush = async () => {
      await admin.flushall();
      flushes += 1;
    };
    const steps = [once(cap * 0.1, flush), once(cap * 0.6, flush)];
    await rush(cap, holders, (count) => void steps.map((step) => step(count)));
    expect(flushes).toBe(2);
  },
  longMs,
);

test(
  "Redis is killed in the middle of it",
  async () => {
    const [cap, holders] = rushSize();
    const before = own.redisPid as number;
    await rush(
      cap,
      holders,
      once(cap * 0.2, () => process.kill(before, "SIGKILL")),
    );
    await until("it was started again", () => own.redisPid !== before);
  },
  longMs,
);

test(
  "a retry beside its first call, both for the last place, is told of the first one's use",
  async () => {
    // What the first use has still to tell the gate may have it forget the coupon: then the second goes without it, and shows nothing.
    for (let attempt = 1; !(await retriesForTheLastPlace()); attempt++) expect(attempt).toBeLessThan(3);
  },
  longMs,
);

/** False: the gate did not hold the last place, so that nothing was shown. */
async function retriesForTheLastPlace(): Promise<boolean> {
  const couponId = await createCappedCoupon(survivor.client, { usageCap: 2 });
  const [first, second] = (await purchasesOf(couponId, 2)) as [Purchase, Purchase];
  const waiting = async () =>
    (
      await audit.connection()`
        SELECT FROM pg_stat_activity
        WHERE datname = current_database() AND wait_event_type = 'Lock' AND query LIKE '%use_user_coupons%'`
    ).length;
  return await withGate(async (gate) => {
    const survey = async () => (await gate.survey(100, 100)).find((one) => one.couponId === couponId);
    await useOnce(survivor.client, first);
    await until("the gate knows of one place", async () => {
      await gate.invalidate(couponId);
      await gate.loadPlaces(couponId, { revision: 1, remaining: 1 });
      return (await survey())?.places?.remaining === 1;
    });
    const calls: Promise<string>[] = [];
    let isTaken = false;
    await audit.connection().begin(async (tx) => {
      await tx`SELECT FROM coupons WHERE id = ${couponId} FOR UPDATE`;
      calls.push(useOnce(survivor.client, second));
      await until("the call waits for the coupon", async () => (await waiting()) === 1);
      isTaken = (await survey())?.takenCount === 1;
      if (!isTaken) return;
      // Through the other replica, which has read that the user coupon can be used.
      calls.push(useOnce(victim.client, second));
      await until("the retry waits for the coupon, too", async () => (await waiting()) === 2);
    });
    const [made, told] = await Promise.all(calls);
    if (!isTaken) return false;
    expect(told).toBe(made);
    expect(await storedUses(audit, couponId)).toMatchObject({
      usedCount: 2,
      placeCount: 2,
      standing: 2,
      exhausted: true,
    });
    return true;
  });
}

test(
  "connections to Postgres are killed again and again: retries end with one usage each",
  async () => {
    const count = sized(300, 5_000);
    // Each could be used five times, so that a use that was made twice would be seen.
    const couponId = await createCappedCoupon(survivor.client, { maxUses: 5, usageCap: count * 2 });
    const purchases = await purchasesOf(couponId, count);
    let kills = 0;
    const kill = async () => {
      const rows = await audit.connection()`
      SELECT pg_terminate_backend(pid) FROM pg_stat_activity
      WHERE datname = current_database() AND application_name = 'coupon-service'`;
      kills += rows.length;
    };
    const kept: Promise<void>[] = [];
    const { usages, refused, passing } = await purchaseAll(purchases, {
      clients,
      inFlight: 100,
      onUsed: (used) => {
        if (used % 100 === 0) kept.push(kill());
      },
    });
    await Promise.all(kept);
    expect(kills).toBeGreaterThan(3);
    for (const { process: child } of [survivor, victim])
      expect([child.exitCode, child.signalCode]).toEqual([null, null]);
    expect([...refused]).toEqual([]);
    expect([...passing.keys()].filter((kind) => !passingKinds.test(kind))).toEqual([]);
    expect(usages.size).toBe(count);
    const result = { usages, refused, passing };
    expect(await lostUsages(audit, couponId, result)).toEqual([]);
    expect(await storedUses(audit, couponId)).toMatchObject({
      ...{ usedCount: count, placeCount: count, standing: count, made: count, useCounts: count, wrong: 0 },
      ...{ useEvents: count, exhausted: false },
    });
    await untilPlacesAreEven(couponId, count);
  },
  longMs,
);

test(
  "one of two replicas is killed in the middle of it",
  async () => {
    const [cap, holders] = rushSize();
    const { passing } = await rush(
      cap,
      holders,
      once(cap * 0.2, () => victim.process.kill("SIGKILL")),
      () => [survivor.client],
    );
    expect([...passing.values()].reduce((sum, count) => sum + count, 0)).toBeGreaterThan(0);
  },
  longMs,
);

test(
  "places that a killed replica held are usable again",
  async () => {
    // As many as one replica lets be at work at once without knowing how long they take.
    const [cap, held] = [200, 150];
    const couponId = await createCappedCoupon(survivor.client, { usageCap: cap });
    const purchases = await purchasesOf(couponId, cap + held);
    const survey = (gate: RedisGate) =>
      gate.survey(100, 10).then((all) => all.find((one) => one.couponId === couponId));
    const doomed = purchases.slice(0, held);
    const others = purchases.slice(held);
    await withGate(async (gate) => {
      // A use makes the places known, unless the busy machine lets its load fail: then the next one does.
      let used = 0;
      await until("the places are loaded", async () => {
        await useOnce(victim.client, others.pop() as Purchase);
        used += 1;
        await until("these places are loaded", async () => (await survey(gate))?.places, 1_000);
        return true;
      });
      const taken = async () => (await survey(gate))?.takenCount ?? 0;
      const calls: Promise<unknown>[] = [];
      let answered = 0;
      const count = () => {
        answered += 1;
      };
      // An open transaction holds the coupon's row, so what the victim has taken cannot be decided.
      await audit.connection().begin(async (tx) => {
        await tx`SELECT FROM coupons WHERE id = ${couponId} FOR UPDATE`;
        for (const purchase of doomed) calls.push(useOnce(victim.client, purchase).then(count, count));
        // On a busy machine the victim lets fewer in, and turns the others away.
        await until("each has a place or is turned away", async () => (await taken()) + answered === held);
        await victim.kill();
        // What it had sent to Postgres by then is not to be decided any more, either.
        await until("nothing that it has sent waits for the coupon", async () => {
          const waiting = await audit.connection()`
            SELECT pg_terminate_backend(pid) FROM pg_stat_activity
            WHERE datname = current_database() AND wait_event_type = 'Lock' AND query LIKE '%use_user_coupons%'`;
          return waiting.length === 0;
        });
      });
      await Promise.all(calls);
      // All of these places are held for nobody: nothing has been given back, and nothing was decided.
      expect(await taken()).toBeGreaterThan(0);
      expect((await storedUses(audit, couponId)).placeCount).toBe(used);
    });
    await purchaseAll(others, { clients: [survivor.client], inFlight: 100 });
    await useTheRest(couponId, cap, [...others, ...doomed], [survivor.client]);
    expect(await storedUses(audit, couponId)).toMatchObject({
      ...{ usedCount: cap, placeCount: cap, standing: cap, made: cap, useCounts: cap, wrong: 0, exhausted: true },
    });
    await untilPlacesAreEven(couponId, 0);
  },
  longMs,
);
