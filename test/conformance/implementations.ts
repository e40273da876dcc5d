import { randomUUID } from "node:crypto";
import { Redis } from "ioredis";
import { inject } from "vitest";
import { newId } from "../../src/platform/new-id.js";
import type { QuotaOptions } from "../../src/platform/quota-groups.js";
import type { LookPauses } from "../../src/reservation/looks.js";
import { MemoryGate } from "../../src/reservation/memory/memory-gate.js";
import type { Gate, GateFacts, GateRequest, Holding } from "../../src/reservation/port.js";
import { RedisGate } from "../../src/reservation/redis/redis-gate.js";
import { unreported } from "../support/unreported.js";

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

export interface RedisSubject extends Subject {
  readonly redis: Redis;
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

export async function startRedisSubject(options: SubjectOptions = {}): Promise<RedisSubject> {
  const keyPrefix = `conformance-${randomUUID()}`;
  const url = inject("redisUrl");
  const redis = new Redis(url);
  const clock = clockOf(options);
  const opened: RedisGate[] = [];
  const open = async () => {
    const one = new RedisGate({
      url,
      keyPrefix,
      failures: unreported,
      clockOffsetMs: clock.offsetMs,
      clock: clock.database,
      ...options,
    });
    opened.push(one);
    if (!(await one.ready())) throw new Error("redis does not answer");
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
      for (const key of await redis.keys(`${keyPrefix}:*`)) {
        if (!/:(loading|stage|late|places)$/.test(key)) continue;
        const leftMs = await redis.pttl(key);
        if (leftMs < 0) continue;
        if (leftMs <= ms) await redis.unlink(key);
        else await redis.pexpire(key, leftMs - ms);
      }
    },
    another: open,
    close: async () => {
      const keys = await redis.keys(`${keyPrefix}:*`);
      if (keys.length > 0) await redis.unlink(...keys);
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

export const implementations: readonly Implementation[] = [
  { name: "RedisGate", start: startRedisSubject },
  { name: "MemoryGate", start: startMemorySubject },
];

/** What the gate knows of a coupon that is open for an hour on both sides, ten of it left, one for each user. */
export function openFacts(nowMs: number, changed: Partial<GateFacts> = {}): GateFacts {
  return {
    revision: 1,
    startsAt: new Date(nowMs - 3_600_000),
    expiresAt: new Date(nowMs + 3_600_000),
    paused: false,
    deleted: false,
    exhausted: false,
    maxPerUser: 1,
    stock: 10,
    throttle: null,
    quota: null,
    ...changed,
  };
}

export async function load(
  { gate }: Subject,
  couponId: string,
  facts: GateFacts,
  holdings: readonly Holding[] = [],
): Promise<void> {
  const loading = await gate.beginLoad(couponId);
  if (!loading) throw new Error("another load is under way");
  if (holdings.length > 0 && !(await loading.addHoldings(holdings))) throw new Error("the load was lost");
  if (!(await loading.install(facts))) throw new Error("the load was lost");
}

export function requestOf(couponId: string, userId: string, requestId = ""): GateRequest {
  return { couponId, userId, requestId, userCouponId: newId(Date.now()) };
}

export function holdingOf({ userId, userCouponId, requestId }: GateRequest, validUntil: Date | null = null): Holding {
  return { userId, userCouponId, requestId, validUntil };
}
