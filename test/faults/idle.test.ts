import { randomUUID } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import { Redis } from "ioredis";
import { afterAll, beforeAll, expect, onTestFinished, test } from "vitest";
import { type EmbeddedServers, startEmbedded } from "../../embedded/embedded.js";
import { newId } from "../../src/platform/new-id.js";
import type { LookPauses } from "../../src/reservation/looks.js";
import { leastBuckets } from "../../src/reservation/packed-holdings.js";
import { RedisGate } from "../../src/reservation/redis/redis-gate.js";
import { backing, startReplicas } from "../support/service.js";
import { unreported } from "../support/unreported.js";
import { until } from "../support/until.js";
import { sized } from "./checkout.js";

/** Looked at in rounds of 500 a second, as once they were, they would cost hundreds of commands a second. */
const couponCount = sized(2_000, 10_000);
const hourMs = 3_600_000;
/** Of a process: long enough for a rate. */
const watchedMs = 10_000;
/** What it may ask in a second. */
const maxPerSecond = 5;

let own: EmbeddedServers;
let redisUrl: string;

beforeAll(async () => {
  // A Redis of its own, in which nobody else's commands are counted.
  own = await startEmbedded({ servers: ["redis"] });
  if (!own.redisUrl) throw new Error(`the tests need a real Redis: ${own.redisUnavailable}`);
  redisUrl = own.redisUrl;
});
afterAll(() => own?.stop());

async function openGate(keyPrefix: string, pauses: Partial<LookPauses> = {}): Promise<RedisGate> {
  const quotaGroupOf = async () => null;
  const gate = new RedisGate({ url: redisUrl, keyPrefix, failures: unreported, pauses, quotaGroupOf });
  onTestFinished(() => gate.close());
  expect(await gate.ready()).toBe(true);
  return gate;
}

/** Stored in Postgres, loaded in Redis, and calm: the next looks are an hour away. */
async function calmCoupons(keyPrefix: string, sql: Awaited<ReturnType<typeof backing>>["sql"]): Promise<string[]> {
  const ids = Array.from({ length: couponCount }, () => randomUUID());
  const [startsAt, expiresAt] = [new Date(Date.now() - hourMs), new Date(Date.now() + 9 * hourMs)];
  await sql`
    INSERT INTO coupons (id, name, description, category, percentage_basis_points, starts_at, expires_at, quantity,
      issued_count, max_per_user, used_count, place_count, max_uses, lock_duration_ms, stackable, created_at, updated_at)
    SELECT unnest(${ids}::uuid[]), 'a coupon', '', '', 1000, ${startsAt}, ${expiresAt}, 10, 0, 1, 0, 0, 1, 300000, false,
      ${startsAt}, ${startsAt}`;
  const gate = await openGate(keyPrefix, { calmMs: [1, 1, hourMs] });
  const flags = {
    paused: false,
    deleted: false,
    exhausted: false,
    throttle: null,
    quota: null,
    bucketCount: leastBuckets,
  };
  const facts = {
    ...flags,
    revision: 1,
    updatedAt: startsAt,
    startsAt,
    expiresAt,
    maxPerUser: 1,
    stock: 10,
    givenBackTotal: 0,
  };
  // On a busy machine an answer may take longer than is waited for; then it is loaded again.
  const load = (id: string) => until("a coupon is loaded", async () => (await gate.beginLoad(id))?.install(facts));
  for (let at = 0; at < ids.length; at += 50) await Promise.all(ids.slice(at, at + 50).map(load));
  // Not only when nothing is due: of looks whose end Redis was not told in time the leases must be over first.
  const redis = new Redis(redisUrl);
  onTestFinished(async () => redis.disconnect());
  const dueSoon = () => redis.zcount(`${keyPrefix}:{${keyPrefix}:coupons}:looks`, "-inf", Date.now() + hourMs / 2);
  await until(
    "all are calm",
    async () => {
      const looks = await gate.lookAtDue(500, 10);
      await gate.endLooks(looks.map((look) => ({ look, again: false })));
      return looks.length === 0 && (await dueSoon()) === 0;
    },
    120_000,
  );
  expect(await redis.zcard(`${keyPrefix}:{${keyPrefix}:coupons}:looks`)).toBe(couponCount);
  return ids;
}

/** What Redis has carried out so far, commands inside scripts and the scripts themselves, but not what asks for the count. */
async function commandCount(redis: Redis): Promise<number> {
  const stats = await redis.info("commandstats");
  return [...stats.matchAll(/^cmdstat_([^:]+):calls=(\d+)/gm)]
    .filter(([, name]) => name !== "info")
    .reduce((sum, [, , calls]) => sum + Number(calls), 0);
}

test("with thousands of calm coupons a replica asks Redis next to nothing, and still sweeps after one that died", async () => {
  const { stores, sql } = await backing(onTestFinished, { redisUrl });
  const [couponId] = (await calmCoupons(stores.keyPrefix, sql)) as [string];
  const redis = new Redis(redisUrl);
  onTestFinished(async () => redis.disconnect());
  await startReplicas(onTestFinished, stores, {});
  const started = await commandCount(redis);
  await until("the replica sweeps", async () => (await commandCount(redis)) > started + 10);

  const before = await commandCount(redis);
  await sleep(watchedMs);
  const asked = (await commandCount(redis)) - before;
  expect(asked).toBeGreaterThan(0);
  expect(asked).toBeLessThan((watchedMs / 1_000) * maxPerSecond);

  // Another replica asks for one of them, and dies.
  const victim = await openGate(stores.keyPrefix);
  expect((await victim.admit({ couponId, userId: "u", requestId: "", userCouponId: newId(Date.now()) })).outcome).toBe(
    "RESERVED",
  );
  await victim.close();
  const key = (name: string) => `${stores.keyPrefix}:{${couponId}}:${name}`;
  expect(await redis.zcard(key("pending"))).toBe(1);
  await until("its reservation is given back", async () => (await redis.zcard(key("pending"))) === 0);
  expect(await redis.hget(key("coupon"), "stock")).toBe("10");
}, 180_000);

test("what an active coupon costs: nothing is asked for its calls that was not before, but once a second", async () => {
  const keyPrefix = randomUUID();
  const gate = await openGate(keyPrefix);
  const redis = new Redis(redisUrl);
  onTestFinished(async () => redis.disconnect());
  const couponId = randomUUID();
  const loading = await gate.beginLoad(couponId);
  const flags = {
    paused: false,
    deleted: false,
    exhausted: false,
    throttle: null,
    quota: null,
    bucketCount: leastBuckets,
    revision: 1,
    updatedAt: new Date(0),
    givenBackTotal: 0,
  };
  const times = { startsAt: new Date(Date.now() - hourMs), expiresAt: new Date(Date.now() + hourMs) };
  await loading?.install({ ...flags, ...times, maxPerUser: 1, stock: null });
  const batch = async (size: number) => {
    const requests = Array.from({ length: size }, () => ({
      ...{ couponId, userId: randomUUID(), requestId: "", userCouponId: newId(Date.now()) },
    }));
    await Promise.all(requests.map((request) => gate.admit(request)));
    await gate.settle(requests.map((request) => ({ ...request, outcome: "CONFIRM", validUntil: null })));
  };
  await batch(1);
  const zadds = async () => {
    const stats = await redis.info("commandstats");
    return Number(/^cmdstat_zadd:calls=(\d+)/m.exec(stats)?.[1] ?? 0);
  };
  const before = await zadds();
  const startedMs = performance.now();
  const batches = 50;
  for (let n = 0; n < batches; n++) await batch(20);
  const seconds = Math.ceil((performance.now() - startedMs) / 1_000);
  // One of each batch is of the script that admits, and one at most of each second says that the coupon is active.
  expect((await zadds()) - before).toBeLessThanOrEqual(batches + seconds);
}, 60_000);
