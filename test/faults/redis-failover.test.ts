import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, beforeEach, describe, expect, onTestFinished, test } from "vitest";
import { Keys } from "../../src/reservation/redis/keys.js";
import { RedisGate } from "../../src/reservation/redis/redis-gate.js";
import type { GrpcClient } from "../support/clients.js";
import { type ClusterNode, RedisCluster } from "../support/redis-cluster.js";
import { adminPassword, fieldsOf } from "../support/redis-processes.js";
import { RedisSentinels, sentinelPassword } from "../support/redis-sentinel.js";
import { type Backing, backing, startReplicas } from "../support/service.js";
import { unreported } from "../support/unreported.js";
import { until } from "../support/until.js";
import { sized } from "./checkout.js";
import {
  Audit,
  createCoupon,
  issue,
  issueToAll,
  missing,
  refusedButStored,
  sellTheRest,
  Tally,
  untilGateIsEven,
  wants,
} from "./crowd.js";

const quantity = sized(500, 10_000);
const perSecond = sized(60, 800);
const isLarge = quantity > 500;
const tickMs = 50;
/** A machine that is too slow for the pace has a slower crowd instead of one that waits in line. */
const maxInFlight = 400;
/** How far into the sale the master is killed, in wholes of the quantity. */
const kills = [0.2, 0.65];

/** Reservations of whoever lost them are looked up soon, so that a test need not wait for it. */
const settings = { RESERVATION_MS: "2000" };

let around: Backing;
let audit: Audit;
beforeEach(async () => {
  around = await backing(onTestFinished);
  audit = new Audit(around.sql);
});

interface Servers {
  readonly url: string;
  readonly settings?: { readonly REDIS_SENTINEL_PASSWORD: string };
  /** kill -9 of the master that has the coupon; resolves when another one has taken its place. */
  killMaster(couponId: string): Promise<void>;
  /** The one that was killed comes back as a replica; resolves when it has a copy. */
  bringBack(): Promise<void>;
}

const exactly = (n: number) => ({ issuedCount: n, rows: n, users: n, events: n });
const namesOf = (found: ReadonlyMap<string, unknown>) => [...found.keys()];

/** A sale by two replicas, at a steady pace, during which the master is killed twice, and comes back between. */
async function saleWithFailovers(servers: Servers): Promise<void> {
  const stores = { ...around.stores, redisUrl: servers.url };
  const own = { ...settings, ...servers.settings };
  const clients = (await startReplicas(onTestFinished, stores, own, own)).map(({ client }) => client);
  const [client] = clients;
  if (!client) throw new Error("no replica");
  const couponId = await createCoupon(client, quantity);
  await untilLoaded(servers, client, couponId);

  const crowd = wants(couponId, "user", Math.ceil(quantity * 1.2));
  const tally = new Tally();
  const acknowledgedAtMs: number[] = [];
  const killedAtMs: number[] = [];
  const replacedAtMs: number[] = [];
  const under: Promise<unknown>[] = [];
  let repaired = Promise.resolve();
  const startedAtMs = Date.now();
  let pausedMs = 0;
  let inFlight = 0;
  for (let at = 0; at < crowd.length; ) {
    const dueCount = Math.ceil(((Date.now() - startedAtMs - pausedMs) * perSecond) / 1_000);
    const part = crowd.slice(at, Math.max(at, Math.min(dueCount, at + maxInFlight - inFlight)));
    at += part.length;
    inFlight += part.length;
    const onAcknowledged = () => void acknowledgedAtMs.push(Date.now());
    for (const want of part) {
      const one = issueToAll([want], { clients, tally, inFlight: 1, onAcknowledged });
      under.push(
        one.finally(() => {
          inFlight -= 1;
        }),
      );
    }
    if (killedAtMs.length < kills.length && at >= (kills[killedAtMs.length] as number) * quantity) {
      // The crowd waits rather than that the second kill comes after it.
      const beforeMs = Date.now();
      await repaired;
      pausedMs += Date.now() - beforeMs;
      killedAtMs.push(Date.now());
      repaired = servers.killMaster(couponId).then(() => {
        replacedAtMs.push(Date.now());
        return servers.bringBack();
      });
    }
    await sleep(tickMs);
  }
  await Promise.all(under);
  expect(killedAtMs).toHaveLength(kills.length);
  await repaired;
  const rest = await sellTheRest(audit, clients, couponId, quantity);

  expect(await audit.stored(couponId)).toEqual(exactly(quantity));
  expect(await missing(audit, tally, rest)).toEqual([]);
  expect(await refusedButStored(audit, tally)).toEqual([]);
  expect(namesOf(tally.refused).filter((reason) => reason !== "SOLD_OUT")).toEqual([]);
  expect(namesOf(tally.passing).filter((kind) => !/^(14|4) /.test(kind))).toEqual([]);
  expect(tally.acknowledged.size + rest.acknowledged.size + 1).toBe(quantity);
  await even(servers, couponId);
  if (isLarge) report();

  function report(): void {
    const inWindow = (fromMs: number) => acknowledgedAtMs.filter((ms) => ms >= fromMs && ms < fromMs + 500).length * 2;
    const lines = killedAtMs.map((killedMs, n) => {
      let backMs = killedMs;
      while (inWindow(backMs) < 0.9 * perSecond && backMs < killedMs + 20_000) backMs += 10;
      const least = Math.min(...Array.from({ length: 60 }, (_, step) => inWindow(killedMs + step * 50)));
      const replacedMs = (replacedAtMs[n] as number) - killedMs;
      return `kill ${n + 1}: replaced after ${replacedMs} ms, goodput back after ${backMs - killedMs} ms, least ${least}/s in 500 ms`;
    });
    lines.push(`passing failures ${JSON.stringify([...tally.passing])}, refused ${tally.count("SOLD_OUT")}`);
    process.stdout.write(`${lines.join("\n")}\n`);
  }
}

/** One user, `early`, has got it then. */
async function untilLoaded(servers: Pick<Servers, "url" | "settings">, client: GrpcClient, couponId: string) {
  const { keyPrefix } = around.stores;
  const gate = new RedisGate({
    ...{ url: servers.url, keyPrefix, failures: unreported },
    ...(servers.settings && { settings: servers.settings }),
  });
  try {
    await gate.ready();
    await until("the gate knows the coupon", async () => {
      await issue(client, { couponId, userId: "early", requestId: `early-${couponId}` });
      return (await gate.survey(10, 10)).some(({ loaded }) => loaded);
    });
  } finally {
    await gate.close();
  }
}

function even(servers: Pick<Servers, "url" | "settings">, couponId: string, of = quantity): Promise<void> {
  const where = { redisUrl: servers.url, keyPrefix: around.stores.keyPrefix };
  return untilGateIsEven(
    audit,
    { ...where, ...(servers.settings && { settings: servers.settings }) },
    new Map([[couponId, of]]),
  );
}

describe("a Cluster", () => {
  let cluster: RedisCluster;
  beforeAll(async () => {
    cluster = await RedisCluster.start();
  });
  afterAll(() => cluster?.close());

  const keyOf = (couponId: string) => new Keys(around.stores.keyPrefix).coupon({ couponId, quotaGroup: null, day: "" });

  test("the master that has a coupon is killed twice in the middle of its sale", async () => {
    let killed: ClusterNode;
    await saleWithFailovers({
      url: cluster.url,
      killMaster: async (couponId) => {
        killed = await cluster.masterOf(keyOf(couponId));
        await cluster.kill(killed);
        await cluster.untilReplaced(killed, keyOf(couponId));
      },
      bringBack: async () => {
        await cluster.startNode(killed);
        await cluster.untilWhole();
      },
    });
  });

  test("a replica that has missed what came last takes over: nothing is issued twice, and nothing stays away", async () => {
    const [client] = (await startReplicas(onTestFinished, { ...around.stores, redisUrl: cluster.url }, settings)).map(
      (replica) => replica.client,
    );
    if (!client) throw new Error("no replica");
    const of = 200;
    const couponId = await createCoupon(client, of);
    await untilLoaded(cluster, client, couponId);
    const known = wants(couponId, "known", 39);
    const clients = [client];
    const crowd = { clients, inFlight: 20 };
    const tallies = [await issueToAll(known, crowd)];
    await even(cluster, couponId, of);

    const master = await cluster.masterOf(keyOf(couponId));
    const replica = await cluster.replicaOf(master);
    const doubtful = wants(couponId, "doubtful", 5);
    let doubted: Promise<Tally> | undefined;
    const pendingKey = new Keys(around.stores.keyPrefix).pending({ couponId, quotaGroup: null, day: "" });
    await audit.connection().begin(async (tx) => {
      // While the coupon's row is held, what is reserved stays undecided; so the replica hears of that alone.
      await tx`SELECT FROM coupons WHERE id = ${couponId} FOR UPDATE`;
      doubted = issueToAll(doubtful, crowd);
      await until("five are pending", async () => (await cluster.askNode(master, "ZCARD", pendingKey)) === 5);
      const offset = async (node: ClusterNode, name: string) =>
        Number(fieldsOf(await cluster.askNode(node, "INFO", "replication")).get(name));
      const written = await offset(master, "master_repl_offset");
      await until("the replica has them", async () => (await offset(replica, "slave_repl_offset")) >= written);
      await cluster.askNode(replica, "CONFIG", "SET", "masterauth", "wrong");
      await cluster.askNode(master, "CLIENT", "KILL", "TYPE", "replica");
    });
    tallies.push((await doubted) as Tally, await issueToAll(wants(couponId, "unknown", 60), crowd));
    await even(cluster, couponId, of);

    const killedAtMs = Date.now();
    await cluster.kill(master);
    await cluster.untilReplaced(master, keyOf(couponId));
    expect(await cluster.masterOf(keyOf(couponId))).toBe(replica);
    const replacedAtMs = Date.now();
    // It took over with what it had: forty issued and five pending, of which a hundred and five were issued.
    const late = await issueToAll(wants(couponId, "late", 150), crowd);
    const soldAtMs = Date.now();
    const again = await issueToAll(
      wants(couponId, "unknown", 60).map((want) => ({ ...want, requestId: "" })),
      crowd,
    );
    const rest = await sellTheRest(audit, clients, couponId, of);
    tallies.push(late, rest);
    expect(again.count("ALREADY_ISSUED")).toBe(60);
    expect(await audit.stored(couponId)).toEqual(exactly(of));
    expect(tallies.reduce((sum, { acknowledged }) => sum + acknowledged.size, 1)).toBe(of);
    expect(await missing(audit, ...tallies)).toEqual([]);
    expect(await refusedButStored(audit, late)).toEqual([]);
    expect(namesOf(late.refused).filter((reason) => reason !== "SOLD_OUT")).toEqual([]);
    await even(cluster, couponId, of);
    if (isLarge) {
      const times = [replacedAtMs, soldAtMs, Date.now()].map((ms) => ms - killedAtMs);
      process.stdout.write(`lost writes: replaced, sold and even ${times.join(", ")} ms after the kill\n`);
    }

    await cluster.askNode(replica, "CONFIG", "SET", "masterauth", adminPassword);
    await cluster.startNode(master);
    await cluster.untilWhole();
  });
});

test("Sentinel: the master is killed twice in the middle of a sale", async () => {
  const sentinels = await RedisSentinels.start();
  onTestFinished(() => sentinels.close());
  let killed: Awaited<ReturnType<typeof sentinels.master>>;
  await saleWithFailovers({
    url: sentinels.url,
    settings: { REDIS_SENTINEL_PASSWORD: sentinelPassword },
    killMaster: async () => {
      killed = await sentinels.master();
      await sentinels.kill(killed);
      await sentinels.untilReplaced(killed);
    },
    bringBack: async () => {
      await sentinels.startAgain(killed);
      await sentinels.untilWhole();
    },
  });
});
