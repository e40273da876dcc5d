import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { Redis } from "ioredis";
import postgres from "postgres";
import { startEmbedded } from "../../embedded/embedded.js";
import { IssuanceService } from "../../gen/coupon/v1/issuance_service_pb.js";
import type { Measurement } from "../generator.js";
import { writeMessages } from "../load/messages-file.js";
import { own } from "../own.js";
import type { OwnBench, OwnBenchContext } from "../own-bench.js";
import { createCoupon, issueMethod, issueRequests } from "../rows/coupons.js";
import { Api, ApiError } from "../support/api.js";
import { describeMachine } from "../support/machine.js";
import { grouped, rounded } from "../support/numbers.js";
import { startReplica } from "../support/replica.js";

const holderCounts = [100_000, 1_000_000];
const quantity = 100_000_000n;
const pollMs = 10;
const askEveryMs = 1_000;
const loadLimitMs = 120_000;
/** A load of the same coupon starts at most every 250 ms. */
const pauseMs = 300;
const openLoopPerSecond = 1_500;
const warmUpSeconds = 3;
/** Of issuing alone and beside loads, the order turned round from one to the next. */
const rounds = 4;
const mostIssuesPerSecond = 8_000;
const spareSeconds = 3;

interface Result {
  readonly holders: number;
  readonly bytesPerHolder: number;
  readonly loadMs: number;
  readonly loadBesideMs: number;
  readonly issueRatio: number;
  readonly openLoopP99Ms: number;
  readonly openLoopP99BesideMs: number;
}

/** What holders cost in Redis, how long they take to load from Postgres, and what that does to others meanwhile. */
export const holders: OwnBench = {
  name: "holders",
  isPartOfAll: false,
  async run(context) {
    context.say(`${describeMachine()}; everything shares it, so only ratios within one run compare well.`);
    const world = await World.open(context);
    await world.issue(warmUpSeconds);
    const results: Result[] = [];
    for (const count of holderCounts) results.push(await world.measure(count));
    for (const one of results) context.say(line(one));
    return results;
  },
};

function line(one: Result): string {
  return (
    `${grouped(one.holders).padStart(9)} holders: ${one.bytesPerHolder} bytes each; loaded in ${one.loadMs} ms, beside issuing in ` +
    `${one.loadBesideMs} ms; issue rate of another coupon while it is loaded again and again: ${one.issueRatio} of what it is ` +
    `alone; at ${openLoopPerSecond}/s p99 ${one.openLoopP99BesideMs} ms instead of ${one.openLoopP99Ms} ms`
  );
}

class World {
  private constructor(
    private readonly context: OwnBenchContext,
    private readonly folder: string,
    private readonly target: string,
    private readonly api: Api,
    private readonly sql: postgres.Sql,
    private readonly redis: Redis,
  ) {}

  static async open(context: OwnBenchContext): Promise<World> {
    const { cleanups } = context;
    const stores = await startEmbedded();
    cleanups.push(() => stores.stop());
    const { databaseUrl, redisUrl } = stores;
    if (!databaseUrl || !redisUrl) throw new Error(`a real Redis is needed: ${stores.redisUnavailable}`);
    const replica = await startReplica({ databaseUrl, redisUrl });
    cleanups.push(() => replica.stop());
    const folder = await mkdtemp(join(tmpdir(), "coupon-bench-"));
    cleanups.push(() => rm(folder, { recursive: true, force: true }));
    const api = new Api([replica.target]);
    cleanups.push(async () => api.close());
    const sql = postgres(databaseUrl, { max: 1, onnotice: () => {} });
    cleanups.push(() => sql.end());
    const redis = new Redis(redisUrl);
    cleanups.push(async () => redis.disconnect());
    return new World(context, folder, replica.target, api, sql, redis);
  }

  async measure(count: number): Promise<Result> {
    const { seconds } = this.context.options;
    const couponId = await createCoupon(this.api, quantity);
    await this.insertHolders(couponId, count);
    const before = await this.usedMemory();
    const loadMs = await this.load(couponId);
    const bytesPerHolder = ((await this.usedMemory()) - before) / count;
    const issueRatio = await this.issueRatio(couponId);
    const openLoop = await this.issue(seconds, openLoopPerSecond);
    const openLoopBeside = await this.beside(couponId, () => this.issue(seconds, openLoopPerSecond));
    return {
      holders: count,
      bytesPerHolder: rounded(bytesPerHolder, 1),
      loadMs: Math.round(loadMs),
      loadBesideMs: Math.round(openLoopBeside.loadMs),
      issueRatio: rounded(issueRatio, 2),
      openLoopP99Ms: rounded(openLoop.p99Ms, 1),
      openLoopP99BesideMs: rounded(openLoopBeside.result.p99Ms, 1),
    };
  }

  /** What is issued of another coupon beside loads, as a share of what is issued without: in turn, for the machine changes. */
  private async issueRatio(couponId: string): Promise<number> {
    const { seconds } = this.context.options;
    let alone = 0;
    let beside = 0;
    for (let round = 0; round < rounds; round++) {
      const loaded = async () => {
        beside += (await this.beside(couponId, () => this.issue(seconds))).result.callsPerSecond;
      };
      if (round % 2 === 1) await loaded();
      alone += (await this.issue(seconds)).callsPerSecond;
      if (round % 2 === 0) await loaded();
    }
    return beside / alone;
  }

  /** Issues another coupon. */
  async issue(seconds: number, requestsPerSecond?: number): Promise<Measurement> {
    const couponId = await createCoupon(this.api, quantity);
    const messagesFile = join(this.folder, "messages");
    const count = (requestsPerSecond ?? mostIssuesPerSecond) * (seconds + spareSeconds);
    await writeMessages(messagesFile, issueRequests(couponId, count));
    const load = { target: this.target, method: issueMethod, messagesFile, seconds, requestsPerSecond };
    return await own.run(load, this.context.signal);
  }

  /** While `work` is under way, the coupon is loaded again and again. */
  private async beside<T>(couponId: string, work: () => Promise<T>): Promise<{ result: T; loadMs: number }> {
    let over = false;
    const times: number[] = [];
    const loads = (async () => {
      while (!over) {
        await sleep(pauseMs);
        times.push(await this.load(couponId));
      }
    })();
    const result = await work().finally(() => {
      over = true;
    });
    await loads;
    return { result, loadMs: times.reduce((sum, one) => sum + one, 0) / times.length };
  }

  /** From the first call of a coupon that Redis does not know until it does. */
  private async load(couponId: string): Promise<number> {
    const key = (await this.redis.keys(`*{${couponId}}:coupon`))[0];
    if (key) await this.redis.unlink(key);
    const startedAt = performance.now();
    while (performance.now() - startedAt < loadLimitMs) {
      // A load that failed is tried again for the next caller.
      await this.call(couponId);
      const askAgainAtMs = performance.now() + askEveryMs;
      while (performance.now() < askAgainAtMs) {
        this.context.signal.throwIfAborted();
        if ((await this.redis.keys(`*{${couponId}}:coupon`)).length > 0) return performance.now() - startedAt;
        await sleep(pollMs);
      }
    }
    throw new Error(`The coupon was not loaded within ${loadLimitMs} ms.`);
  }

  /** By one who holds it already. */
  private async call(couponId: string): Promise<void> {
    const request = { target: { case: "couponId" as const, value: couponId }, userId: "user-1000001" };
    await this.api.call(IssuanceService.method.issueCoupon, request).catch((error: unknown) => {
      if (!(error instanceof ApiError) || error.failure.reason !== "ALREADY_ISSUED") throw error;
    });
  }

  private async insertHolders(couponId: string, count: number): Promise<void> {
    await this.sql`
      INSERT INTO user_coupons (id, coupon_id, user_id, slot, request_id, issued_at)
      SELECT gen_random_uuid(), ${couponId}, 'user-' || 1000000 + n, 1, gen_random_uuid()::text, now()
      FROM generate_series(1, ${count}::int) n`;
    await this.sql`UPDATE coupons SET issued_count = ${count}, issued_total = ${count} WHERE id = ${couponId}`;
    await this.sql`VACUUM ANALYZE user_coupons`;
  }

  private async usedMemory(): Promise<number> {
    return Number(/used_memory:(\d+)/.exec(await this.redis.info("memory"))?.[1]);
  }
}
