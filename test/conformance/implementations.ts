import { randomUUID } from "node:crypto";
import { Cluster, Redis } from "ioredis";
import { inject } from "vitest";
import { newId } from "../../src/platform/new-id.js";
import type { QuotaOptions } from "../../src/platform/quotas/quota-groups.js";
import type { LookPauses } from "../../src/reservation/looks.js";
import { MemoryGate } from "../../src/reservation/memory/memory-gate.js";
import { leastBuckets, packHoldings } from "../../src/reservation/packed-holdings.js";
import type { Gate, GateFacts, GateRequest, Holding } from "../../src/reservation/port.js";
import { RedisGate } from "../../src/reservation/redis/redis-gate.js";
import { adminPassword } from "../support/redis-processes.js";
import { unreported } from "../support/unreported.js";
import { until } from "../support/until.js";

/** One implementation of the port, with a clock that a test can move. */
export interface Subject {
  readonly gate: Gate;
  /** Milliseconds since 1970, as the implementation sees them. */
  now(): number;
  advance(ms: number): Promise<void>;
  /** As another process would have it; what is kept in memory is no other process's. */
  another(): Promise<Gate>;
  close(): Promise<void>;
}

export interface RedisSubject<R = Redis> extends Subject {
  readonly redis: R;
  readonly keyPrefix: string;
}

export interface SubjectOptions extends QuotaOptions {
  readonly reservationMs?: number;
  readonly pauses?: Partial<LookPauses>;
  /** Its clock stands still, but for the time that a message takes, until it is advanced. */
  readonly clockStands?: boolean;
  /** How far the clock of Postgres is ahead of its own. */
  readonly databaseAheadMs?: number;
}

export interface Implementation {
  readonly name: string;
  start(options?: SubjectOptions): Promise<Subject>;
}

/** A clock that a test can move, and how far it is from this machine's. */
function clockOf({ clockStands = false, databaseAheadMs = 0 }: SubjectOptions) {
  const startedAtMs = Date.now();
  let advancedMs = 0;
  const now = () => (clockStands ? startedAtMs : Date.now()) + advancedMs;
  return {
    now,
    offsetMs: () => now() - Date.now(),
    database: { nowMs: () => now() + databaseAheadMs },
    advance: (ms: number) => {
      advancedMs += ms;
    },
  };
}

export function startRedisSubject(options: SubjectOptions = {}): Promise<RedisSubject> {
  const url = inject("redisUrl");
  return startSubject(options, url, new Redis(url));
}

/** `redis` is of this subject, and ends with it. */
export async function startSubject<R extends Redis | Cluster>(
  options: SubjectOptions,
  url: string,
  redis: R,
): Promise<RedisSubject<R>> {
  const keyPrefix = `conformance-${randomUUID()}`;
  /** Each with its keys of this subject. */
  const servers = async () => {
    const masters = redis instanceof Cluster ? redis.nodes("master") : [redis as Redis];
    return await Promise.all(masters.map(async (one) => ({ one, keys: await one.keys(`${keyPrefix}:*`) })));
  };
  const clock = clockOf(options);
  const opened: RedisGate[] = [];
  const open = async () => {
    const one = new RedisGate({
      url,
      keyPrefix,
      failures: unreported,
      clockOffsetMs: clock.offsetMs,
      clock: clock.database,
      // On a busy machine, too.
      patienceMs: 20_000,
      ...options,
    });
    opened.push(one);
    await until("redis answers", () => one.ready());
    return one;
  };
  const gate = await open();
  return {
    gate,
    redis,
    keyPrefix,
    now: clock.now,
    advance: async (ms) => {
      clock.advance(ms);
      // What Redis itself lets expire grows older as well.
      for (const { one, keys } of await servers()) {
        for (const key of keys) {
          if (!/:(loading|stage|late|places)$/.test(key)) continue;
          const leftMs = await one.pttl(key);
          if (leftMs < 0) continue;
          if (leftMs <= ms) await one.unlink(key);
          else await one.pexpire(key, leftMs - ms);
        }
      }
    },
    another: open,
    close: async () => {
      for (const { one, keys } of await servers()) {
        await Promise.all(keys.map((key) => one.unlink(key)));
      }
      for (const one of opened) await one.close();
      redis.disconnect();
    },
  };
}

async function startMemorySubject(options: SubjectOptions = {}): Promise<Subject> {
  const clock = clockOf(options);
  const gate = new MemoryGate({ now: clock.now, clock: clock.database, ...options });
  return {
    gate,
    now: clock.now,
    advance: async (ms) => clock.advance(ms),
    another: async () => gate,
    close: () => gate.close(),
  };
}

/** Only in the full size is there one for the whole run: what differs on a Cluster is in cluster.test.ts. */
const cluster = inject("redisCluster");

async function startClusterSubject(options: SubjectOptions = {}): Promise<Subject> {
  if (!cluster) throw new Error("there is no Cluster");
  const nodes = cluster.ports.map((port) => ({ host: "127.0.0.1", port }));
  const redis = new Cluster(nodes, { redisOptions: { password: adminPassword } });
  return await startSubject(options, cluster.url, redis);
}

export const implementations: readonly Implementation[] = [
  { name: "RedisGate", start: startRedisSubject },
  { name: "MemoryGate", start: startMemorySubject },
  ...(cluster ? [{ name: "RedisGate on a Cluster", start: startClusterSubject }] : []),
];

/** What the gate knows of a coupon that is open for an hour on both sides, ten of it left, one for each user. */
export function openFacts(nowMs: number, changed: Partial<GateFacts> = {}): GateFacts {
  return {
    revision: 1,
    updatedAt: new Date(nowMs - 3_600_000),
    startsAt: new Date(nowMs - 3_600_000),
    expiresAt: new Date(nowMs + 3_600_000),
    paused: false,
    deleted: false,
    exhausted: false,
    maxPerUser: 1,
    stock: 10,
    givenBackTotal: 0,
    throttle: null,
    quota: null,
    bucketCount: leastBuckets,
    ...changed,
  };
}

export async function load(
  { gate }: Subject,
  couponId: string,
  facts: GateFacts,
  holdings: readonly Holding[] = [],
  given: readonly GateRequest[] = [],
): Promise<void> {
  const loading = await gate.beginLoad(couponId);
  if (!loading) throw new Error("another load is under way");
  const pages = packHoldings(holdings, facts.bucketCount, given);
  if (pages.length > 0 && !(await loading.addHoldings(pages))) throw new Error("the load was lost");
  if (!(await loading.install(facts))) throw new Error("the load was lost");
}

export function requestOf(couponId: string, userId: string, requestId = ""): GateRequest {
  return { couponId, userId, requestId, userCouponId: newId(Date.now()) };
}

export function holdingOf({ userId, userCouponId, requestId }: GateRequest, validUntil: Date | null = null): Holding {
  return { userId, userCouponId, requestId, validUntil };
}
