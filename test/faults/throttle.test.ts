import { setTimeout as pause } from "node:timers/promises";
import { durationFromMs, timestampFromMs } from "@bufbuild/protobuf/wkt";
import { afterAll, expect, test } from "vitest";
import { CatalogService } from "../../gen/coupon/v1/catalog_service_pb.js";
import { CouponType } from "../../gen/coupon/v1/coupon_pb.js";
import { CallError, type GrpcClient, letIn } from "../support/clients.js";
import { twoReplicas } from "../support/service.js";
import { until } from "../support/until.js";
import { sized } from "./checkout.js";
import { issue, type Want, wants } from "./crowd.js";

const maxConcurrent = 5;
const maxPerSecond = 10;
/** The whole race has the limits of every MEGADEAL; the small one a shorter queue. */
const ownWaitMs = sized(2_000, 0) || undefined;
const maxWaitMs = ownWaitMs ?? 10_000;
const callerCount = sized(100, 400);
const timeoutMs = 15_000;

const { stores, sql, redis, clients } = await twoReplicas(afterAll);

async function createMegadeal(
  throttle = ownWaitMs && { maxConcurrent, maxPerSecond, maxWait: durationFromMs(ownWaitMs) },
): Promise<string> {
  const { coupon } = await clients[0].call(CatalogService.method.createCoupon, {
    coupon: {
      name: "Megadeal",
      discount: { kind: { case: "percentageBasisPoints", value: 1_000 } },
      expireTime: timestampFromMs(Date.now() + 3_600_000),
      type: CouponType.MEGADEAL,
      ...(throttle && { throttle }),
    },
  });
  expect(coupon?.throttle).toMatchObject(
    throttle || { maxConcurrent, maxPerSecond, maxWait: durationFromMs(maxWaitMs) },
  );
  return coupon?.id ?? "";
}

interface Answer {
  readonly tookMs: number;
  readonly userId: string;
  readonly refusal?: CallError;
}

async function ask(want: Want, index: number): Promise<Answer> {
  const sentAtMs = Date.now();
  const answer = (refusal?: CallError) => ({
    ...{ userId: want.userId, tookMs: Date.now() - sentAtMs },
    ...(refusal && { refusal }),
  });
  try {
    // On a busy machine Redis may be late, and without it nobody is counted. Who asks again has the same request id.
    await letIn(() => issue(clients[index % 2] as GrpcClient, want, timeoutMs), "STORE_UNAVAILABLE");
    return answer();
  } catch (error) {
    if (error instanceof CallError) return answer(error);
    throw error;
  }
}

/** Does something while the gate is watched; answers how many were at work at most. */
async function mostPendingDuring(couponId: string, act: () => Promise<void>): Promise<number> {
  let most = 0;
  let over = false;
  const watching = (async () => {
    while (!over) {
      most = Math.max(most, await redis.zcard(`${stores.keyPrefix}:{${couponId}}:pending`));
      await pause(1);
    }
  })();
  await act().finally(() => {
    over = true;
  });
  await watching;
  return most;
}

/** Who was issued the coupon, the first one first. */
async function rowsOf(couponId: string): Promise<{ userId: string; ms: number }[]> {
  return await sql<{ userId: string; ms: number }[]>`
    SELECT user_id AS "userId", (extract(epoch FROM issued_at) * 1000)::float8 AS ms FROM user_coupons
    WHERE coupon_id = ${couponId} ORDER BY issued_at, id`;
}

async function untilGateHas(couponId: string): Promise<void> {
  await until("the gate has it", async () => {
    await ask({ couponId, userId: "first", requestId: couponId }, 0);
    return await redis.exists(`${stores.keyPrefix}:{${couponId}}:coupon`);
  });
}

/** A crowd of callers, all at once; their limits hold, and nobody who has a ticket in time is refused. */
async function rush(couponId: string): Promise<void> {
  let answers: Answer[] = [];
  const mostPending = await mostPendingDuring(couponId, async () => {
    answers = await Promise.all(wants(couponId, "caller", callerCount).map(ask));
  });
  const served = answers.filter(({ refusal }) => !refusal);
  const refused = answers.filter(({ refusal }) => refusal);
  const rows = await rowsOf(couponId);
  const crowd = rows.filter(({ userId }) => userId !== "first");
  expect(crowd.map(({ userId }) => userId).sort()).toEqual(served.map(({ userId }) => userId).sort());
  // A machine that is late makes the queue longer in time, and never shorter in tickets.
  const tickets = Math.floor((maxWaitMs * maxPerSecond) / 1_050);
  expect(served.length).toBeGreaterThanOrEqual(tickets);
  expect(mostPending).toBeLessThanOrEqual(maxConcurrent);
  const spans = rows.slice(maxPerSecond).map(({ ms }, index) => ms - (rows[index]?.ms ?? 0));
  expect(Math.min(...spans)).toBeGreaterThanOrEqual(1_000);
  expect(refused.length).toBeGreaterThan(0);
  expect(new Set(refused.map(({ refusal }) => refusal?.reason))).toEqual(new Set(["THROTTLED"]));
  for (const { refusal } of refused) expect(refusal?.retryDelayMs).toBeGreaterThan(0);
  // Who is refused is told so while others still wait.
  const most = (all: Answer[]) => Math.max(...all.map(({ tookMs }) => tookMs));
  expect(Math.min(...refused.map(({ tookMs }) => tookMs))).toBeLessThan(most(served) / 2);
  process.stderr.write(
    `throttle: ${served.length} served within ${most(served)} ms, ${refused.length} refused within ${most(refused)} ms; ` +
      `${maxPerSecond + 1} took at least ${Math.min(...spans)} ms; at most ${mostPending} at once\n`,
  );
}

test("a crowd that comes at once, for a coupon that the gate has not loaded yet", async () => {
  await rush(await createMegadeal());
});

test("a crowd that comes at once, for a coupon that the gate has", async () => {
  const couponId = await createMegadeal();
  await untilGateHas(couponId);
  await rush(couponId);
});

test("as many as may be are at work at once, and no more, however long Postgres takes", async () => {
  const couponId = await createMegadeal();
  await untilGateHas(couponId);
  const count = 3 * maxConcurrent;
  const mostPending = await mostPendingDuring(couponId, async () => {
    let calls: Promise<Answer>[] = [];
    await sql.begin(async (tx) => {
      // An open transaction holds the coupon's row, so what is at work does not end.
      await tx`SELECT FROM coupons WHERE id = ${couponId} FOR UPDATE`;
      calls = wants(couponId, "caller", count).map(ask);
      const pending = () => redis.zcard(`${stores.keyPrefix}:{${couponId}}:pending`);
      await until("as many are at work as may be", async () => (await pending()) >= maxConcurrent);
      // Whoever has asked again and again since then has been made to wait.
      const behind = async () => Number(await redis.hget(`${stores.keyPrefix}:{${couponId}}:line`, "behind"));
      const before = await behind();
      await until("the queue has stood still for a second", async () => (await behind()) > before + 1_000);
    });
    await Promise.all(calls);
  });
  expect(mostPending).toBe(maxConcurrent);
});

test("those who are served are served in the order in which they came", async () => {
  // Tickets so far apart that a machine which is late serves nobody before the one ahead.
  const couponId = await createMegadeal({ maxConcurrent, maxPerSecond: 1, maxWait: durationFromMs(20_000) });
  await untilGateHas(couponId);
  const next = () => redis.hget(`${stores.keyPrefix}:{${couponId}}:line`, "next");
  const callers = wants(couponId, "caller", 6);
  const calls: Promise<Answer>[] = [];
  for (const [index, want] of callers.entries()) {
    const before = await next();
    calls.push(ask(want, index));
    await until("it waits in the queue", async () => (await next()) !== before);
  }
  expect((await Promise.all(calls)).map(({ refusal }) => refusal)).toEqual(callers.map(() => undefined));
  expect((await rowsOf(couponId)).map(({ userId }) => userId)).toEqual(["first", ...callers.map((one) => one.userId)]);
});
