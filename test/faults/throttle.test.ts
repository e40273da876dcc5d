import { setTimeout as pause } from "node:timers/promises";
import { durationFromMs, timestampFromMs } from "@bufbuild/protobuf/wkt";
import { afterAll, expect, test } from "vitest";
import { CatalogService } from "../../gen/coupon/v1/catalog_service_pb.js";
import { CouponType } from "../../gen/coupon/v1/coupon_pb.js";
import { CallError, type GrpcClient } from "../support/clients.js";
import { twoReplicas } from "../support/service.js";
import { until } from "../support/until.js";
import { sized } from "./checkout.js";
import { issue, type Want, wants } from "./crowd.js";

const maxConcurrent = 5;
const maxPerSecond = 10;
/** The whole race has the limits of every MEGADEAL; the small one a shorter line. */
const ownWaitMs = sized(2_000, 0) || undefined;
const maxWaitMs = ownWaitMs ?? 10_000;
const callerCount = sized(100, 400);
const timeoutMs = 15_000;

const { stores, sql, redis, clients } = await twoReplicas(afterAll);

async function createMegadeal(): Promise<string> {
  const { coupon } = await clients[0].call(CatalogService.method.createCoupon, {
    coupon: {
      name: "Megadeal",
      discount: { kind: { case: "percentageBasisPoints", value: 1_000 } },
      expireTime: timestampFromMs(Date.now() + 3_600_000),
      type: CouponType.MEGADEAL,
      ...(ownWaitMs && { throttle: { maxConcurrent, maxPerSecond, maxWait: durationFromMs(ownWaitMs) } }),
    },
  });
  expect(coupon?.throttle).toMatchObject({ maxConcurrent, maxPerSecond, maxWait: durationFromMs(maxWaitMs) });
  return coupon?.id ?? "";
}

interface Answer {
  readonly sentAtMs: number;
  readonly tookMs: number;
  readonly userId: string;
  readonly refusal?: CallError;
}

async function ask(want: Want, index: number): Promise<Answer> {
  const sentAtMs = Date.now();
  const base = { sentAtMs, userId: want.userId };
  try {
    await issue(clients[index % 2] as GrpcClient, want, timeoutMs);
    return { ...base, tookMs: Date.now() - sentAtMs };
  } catch (error) {
    if (!(error instanceof CallError)) throw error;
    return { ...base, tookMs: Date.now() - sentAtMs, refusal: error };
  }
}

/** A crowd of callers, some ms apart, while the gate is watched. */
async function rush(couponId: string, apartMs: number) {
  let mostPending = 0;
  let over = false;
  const watching = (async () => {
    while (!over) {
      mostPending = Math.max(mostPending, await redis.zcard(`${stores.keyPrefix}:{${couponId}}:pending`));
      await pause(1);
    }
  })();
  const calls: Promise<Answer>[] = [];
  const startedAtMs = Date.now();
  for (const [index, want] of wants(couponId, "caller", callerCount).entries()) {
    if (apartMs > 0) await until("the next one's time has come", () => Date.now() >= startedAtMs + index * apartMs);
    calls.push(ask(want, index));
  }
  const answers = await Promise.all(calls);
  over = true;
  await watching;
  const rows = await sql<{ userId: string; ms: number }[]>`
    SELECT user_id AS "userId", (extract(epoch FROM issued_at) * 1000)::float8 AS ms FROM user_coupons
    WHERE coupon_id = ${couponId} ORDER BY issued_at, id`;
  return { answers, rows: [...rows], mostPending };
}

type Rush = Awaited<ReturnType<typeof rush>>;

function expectLimits({ answers, rows, mostPending }: Rush): void {
  const served = answers.filter(({ refusal }) => !refusal);
  const refused = answers.filter(({ refusal }) => refusal);
  expect(rows.map(({ userId }) => userId).sort()).toEqual(served.map(({ userId }) => userId).sort());
  // As many as have a turn in time, but for a few that the machine was late for.
  const turns = (maxWaitMs * maxPerSecond) / 1_050;
  expect(served.length).toBeGreaterThan(turns * 0.8);
  expect(mostPending).toBeGreaterThan(0);
  expect(mostPending).toBeLessThanOrEqual(maxConcurrent);
  const spans = rows.slice(maxPerSecond).map(({ ms }, index) => ms - (rows[index]?.ms ?? 0));
  expect(Math.min(...spans)).toBeGreaterThanOrEqual(1_000);
  expect(new Set(refused.map(({ refusal }) => refusal?.reason))).toEqual(new Set(["THROTTLED"]));
  for (const { refusal, tookMs } of refused) {
    expect(refusal?.retryDelayMs).toBeGreaterThan(0);
    expect(tookMs).toBeLessThan(1_000);
  }
  const most = (times: number[]) => Math.round(Math.max(...times));
  process.stderr.write(
    `throttle: ${served.length} served within ${most(served.map(({ tookMs }) => tookMs))} ms, ${refused.length} refused within ` +
      `${most(refused.map(({ tookMs }) => tookMs))} ms; ${maxPerSecond + 1} took at least ${Math.min(...spans)} ms; ` +
      `at most ${mostPending} at once\n`,
  );
}

test("a crowd that comes at once, for a coupon that the gate has not loaded yet", async () => {
  expectLimits(await rush(await createMegadeal(), 0));
});

test("those who are served are served in the order in which they came", async () => {
  const couponId = await createMegadeal();
  await until("the gate has it", async () => {
    await ask({ couponId, userId: "first", requestId: "first" }, 0);
    return await redis.exists(`${stores.keyPrefix}:{${couponId}}:coupon`);
  });
  const crowd = await rush(couponId, 4);
  const rows = crowd.rows.filter(({ userId }) => userId !== "first");
  expectLimits({ ...crowd, rows });
  const sentAtMs = new Map(crowd.answers.map((answer) => [answer.userId, answer.sentAtMs]));
  // What two replicas were told within a tenth of a second may have come to the gate the other way round.
  let latest = 0;
  for (const { userId } of rows) {
    const ms = sentAtMs.get(userId) as number;
    expect(ms).toBeGreaterThan(latest - 100);
    latest = Math.max(latest, ms);
  }
});
