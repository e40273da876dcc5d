import { pathToFileURL } from "node:url";
import { durationFromMs, timestampFromMs, timestampMs } from "@bufbuild/protobuf/wkt";
import { expect, onTestFinished, test } from "vitest";
import { CatalogService } from "../../gen/coupon/v1/catalog_service_pb.js";
import { UsageService } from "../../gen/coupon/v1/usage_service_pb.js";
import { timeOf } from "../../src/platform/new-id.js";
import type { CallError, GrpcClient } from "../support/clients.js";
import type { Replica } from "../support/replica.js";
import { type Backing, backing, startProcesses } from "../support/service.js";
import { until } from "../support/until.js";
import { sized } from "./checkout.js";
import {
  Audit,
  createCoupon,
  issue,
  issueToAll,
  missing,
  outcomeOf,
  sellTheRest,
  untilGateIsEven,
  wants,
} from "./crowd.js";

const hourMs = 3_600_000;
const skewMs = 2 * hourMs;
/** Of two times of one moment by one clock, on a busy machine. A clock that is wrong differs by much more. */
const sameMs = hourMs / 2;

/** A lock, or a claim window: longer than the test. */
const lastsMs = 600_000;

const hook = pathToFileURL(new URL("../support/wrong-clock.mjs", import.meta.url).pathname).href;

/**
 * Settings of a replica whose machine's clock is wrong. LIBFAKETIME, the path of that library (Debian's package `libfaketime`
 * has it), makes it wrong for the whole process instead, with all that is not JavaScript.
 */
function clockAhead(ms: number, setToMs = 0): Record<string, string> {
  const library = process.env.LIBFAKETIME;
  if (library) return { LD_PRELOAD: library, FAKETIME: `${ms < 0 ? "" : "+"}${ms / 1_000}`, DONT_FAKE_MONOTONIC: "1" };
  return {
    NODE_OPTIONS: `--import ${hook}`,
    TEST_CLOCK_AHEAD_MS: String(ms),
    TEST_CLOCK_SET_TO_MS: String(setToMs),
  };
}

/** A time zone in which it is the first hour of the day by Postgres' clock: two hours before it was another day. */
async function zoneAfterMidnight({ sql }: Backing): Promise<string> {
  const [row] = await sql`SELECT date_part('hour', clock_timestamp() AT TIME ZONE 'UTC')::int AS hour`;
  return row?.hour === 0 ? "UTC" : `Etc/GMT${row?.hour <= 12 ? `+${row?.hour}` : `-${24 - row?.hour}`}`;
}

async function clockOffsetS({ httpPort }: Replica): Promise<number> {
  const text = await (await fetch(`http://127.0.0.1:${httpPort}/metrics`)).text();
  return Number(/^coupon_clock_offset_seconds (\S+)$/m.exec(text)?.[1] ?? Number.NaN);
}

/** What a replica has said of its machine's clock. */
const saidOfClock = (replica: Replica) =>
  [...replica.log().matchAll(/"msg":"(this machine's clock [^"]+)"/g)].map(([, text]) => text?.split(";")[0]);

async function createDaily(client: GrpcClient): Promise<string> {
  const { coupon } = await client.call(CatalogService.method.createCoupon, {
    coupon: {
      name: "One a day, soon or never",
      discount: { kind: { case: "percentageBasisPoints", value: 1_000 } },
      expireTime: timestampFromMs(Date.now() + hourMs),
      quantity: 1_000n,
      maxPerUser: 10,
      quota: { group: "daily", maxPerDay: 1 },
      lockDuration: durationFromMs(lastsMs),
      claimWindow: durationFromMs(lastsMs),
    },
  });
  return coupon?.id ?? "";
}

test("one replica is two hours ahead and one two hours behind, and the one that is right dies", async () => {
  const around = await backing(onTestFinished);
  const { stores, sql, redis } = around;
  const zone = await zoneAfterMidnight(around);
  const settings = { QUOTA_TIME_ZONE: zone, RESERVATION_MS: "2000" };
  const [right, ahead, behind] = await startProcesses(
    onTestFinished,
    stores,
    settings,
    { ...settings, ...clockAhead(skewMs) },
    { ...settings, ...clockAhead(-skewMs) },
  );
  const all = [right, ahead, behind];
  const clients = all.map(({ client }) => client);
  const audit = new Audit(sql);

  // It is seen, and said.
  const offsets = await Promise.all(all.map(clockOffsetS));
  for (const [index, aheadMs] of [0, skewMs, -skewMs].entries()) {
    expect(Math.abs((offsets[index] as number) * 1_000 - aheadMs)).toBeLessThan(60_000);
  }
  const isWrong = "this machine's clock is wrong";
  await until("the two have said it", () => [ahead, behind].every((one) => saidOfClock(one).length > 0));

  // Who is too early or too late is told so by each.
  const soon = await createCoupon(right.client, 10, { startsInMs: hourMs, endsInMs: 2 * hourMs });
  const open = await createCoupon(right.client, 10, { startsInMs: -hourMs, endsInMs: hourMs });
  for (const [index, client] of clients.entries()) {
    const outcomes = [];
    // The first asks Postgres; then Redis knows the coupon.
    for (let n = 0; n < 2; n++) {
      for (const couponId of [soon, open]) {
        outcomes.push(await outcomeOf(client, { couponId, userId: `${index} ${n}`, requestId: "" }));
      }
    }
    expect(outcomes).toEqual(["COUPON_NOT_STARTED", "ISSUED", "COUPON_NOT_STARTED", "ISSUED"]);
  }

  // One a day is one a day, whoever is asked, and the day is Postgres'.
  const daily = await createDaily(right.client);
  const refusals: CallError[] = [];
  for (const [index, first] of clients.entries()) {
    const want = { couponId: daily, userId: `user ${index}`, requestId: "" };
    const { userCoupon } = await issue(first, want);
    const [issuedMs, claimMs] = [userCoupon?.issueTime, userCoupon?.claimExpireTime].map(
      (time) => time && timestampMs(time),
    );
    expect(Math.abs((issuedMs as number) - Date.now())).toBeLessThan(sameMs);
    expect(claimMs).toBe((issuedMs as number) + lastsMs);
    const { locks } = await first.call(UsageService.method.lockCoupons, {
      userId: want.userId,
      coupons: [{ target: { case: "userCouponId", value: userCoupon?.id ?? "" } }],
      orderId: `order ${index}`,
    });
    expect(Math.abs(timestampMs(locks[0]?.expireTime as never) - Date.now() - lastsMs)).toBeLessThan(sameMs);
    for (const client of clients) {
      refusals.push(
        await issue(client, want).then(
          () => expect.fail("a second one on this day"),
          (error) => error,
        ),
      );
    }
  }
  expect(refusals.map(({ reason }) => reason)).toEqual(refusals.map(() => "QUOTA_REACHED"));
  // The day has just begun.
  for (const { retryDelayMs = 0 } of refusals) {
    expect(retryDelayMs).toBeGreaterThan(22 * hourMs);
    expect(retryDelayMs).toBeLessThanOrEqual(24 * hourMs);
  }
  const [day] = await sql`SELECT to_char(clock_timestamp() AT TIME ZONE ${zone}, 'YYYY-MM-DD') AS today`;
  const days = (await redis.keys(`${stores.keyPrefix}:*:quota:*`)).map((key) => key.split(":").at(-1));
  expect(days).toEqual([day?.today]);

  // What the dead one has reserved comes back by those that are wrong.
  const quantity = sized(100, 1_000);
  // A connection of which no call has ended yet may have 100 open.
  const held = 60;
  const couponId = await createCoupon(right.client, quantity);
  const pending = async () => await redis.zcard(`${stores.keyPrefix}:{${couponId}}:pending`);
  await until("the coupon is loaded", async () => {
    if ((await redis.exists(`${stores.keyPrefix}:{${couponId}}:coupon`)) === 1) return true;
    await issue(right.client, { couponId, userId: "first", requestId: "first" });
    return false;
  });
  const doomed: Promise<unknown>[] = [];
  let answered = 0;
  const count = () => {
    answered += 1;
  };
  await sql.begin(async (tx) => {
    await tx`SELECT FROM coupons WHERE id = ${couponId} FOR UPDATE`;
    for (const want of wants(couponId, "doomed", held)) doomed.push(issue(right.client, want).then(count, count));
    await until("each is reserved or turned away", async () => (await pending()) + answered === held);
    await right.kill();
    expect(await pending()).toBeGreaterThan(0);
  });
  await Promise.all(doomed);
  const survivors = [ahead.client, behind.client];
  const crowd = await issueToAll(wants(couponId, "user", quantity / 4), { clients: survivors, inFlight: 50 });
  await untilGateIsEven(audit, stores, new Map([[couponId, quantity]]));
  const rest = await sellTheRest(audit, survivors, couponId, quantity);
  expect(await audit.stored(couponId)).toEqual({
    issuedCount: quantity,
    rows: quantity,
    users: quantity,
    events: quantity,
  });
  expect(await missing(audit, crowd, rest)).toEqual([]);

  // Of what lasts it was said once.
  expect(all.map(saidOfClock)).toEqual([[], [isWrong], [isWrong]]);

  // Whoever has made it, an id is of the time at which it was issued.
  const rows = await sql<{ id: string; issuedAt: Date }[]>`SELECT id, issued_at AS "issuedAt" FROM user_coupons`;
  expect(rows.length).toBeGreaterThan(quantity);
  expect(rows.filter(({ id, issuedAt }) => Math.abs(timeOf(id) - issuedAt.getTime()) > sameMs)).toEqual([]);
});

test("without Redis, a replica whose clock is wrong judges by that of Postgres", async () => {
  const { stores } = await backing(onTestFinished);
  const alone = { databaseUrl: stores.databaseUrl, keyPrefix: stores.keyPrefix };
  const replicas = await startProcesses(onTestFinished, alone, clockAhead(skewMs), clockAhead(-skewMs));
  const users = Array.from({ length: 20 }, (_, n) => `user-${n}`);
  for (const { client } of replicas) {
    const couponId = await createCoupon(client, 100, { startsInMs: -hourMs, endsInMs: hourMs });
    const outcomes = [];
    // The first are decided before the coupon is loaded.
    for (const userId of users) outcomes.push(await outcomeOf(client, { couponId, userId, requestId: "" }));
    expect(outcomes).toEqual(users.map(() => "ISSUED"));
  }
});

// A process under libfaketime has one clock from its beginning to its end.
test.skipIf(process.env.LIBFAKETIME)("the machine's clock is set while calls are under way", async () => {
  const { stores, sql } = await backing(onTestFinished);
  const replicas = await startProcesses(onTestFinished, stores, clockAhead(0, skewMs), clockAhead(0, -skewMs));
  const clients = replicas.map(({ client }) => client);
  const couponId = await createCoupon(clients[0] as GrpcClient, 100);
  await issueToAll(wants(couponId, "before", 10), { clients, inFlight: 10 });
  const calls: Promise<string>[] = [];
  await sql.begin(async (tx) => {
    await tx`SELECT FROM coupons WHERE id = ${couponId} FOR UPDATE`;
    // Those of one user are never in one batch: some wait until the others are committed.
    const users = wants(couponId, "during", 20);
    for (const [index, want] of [...users, ...users, ...users].entries()) {
      calls.push(outcomeOf(clients[index % 2] as GrpcClient, { ...want, requestId: "" }));
    }
    await until("each replica waits for the lock", async () => {
      const [row] = await sql`
        SELECT count(DISTINCT client_port)::int AS count FROM pg_stat_activity
        WHERE wait_event_type = 'Lock' AND datname = current_database()`;
      return row?.count >= 2;
    });
    for (const { process } of replicas) process.kill("SIGUSR2");
    await until("both have seen it", async () => {
      const [one = 0, other = 0] = await Promise.all(replicas.map(clockOffsetS));
      return one > 7_000 && other < -7_000;
    });
  });
  const outcomes = (await Promise.all(calls)).sort();
  expect(outcomes).toEqual(calls.map((_, index) => (index < 40 ? "ALREADY_ISSUED" : "ISSUED")));
  for (const replica of replicas) {
    await until("it is said", () => saidOfClock(replica).length === 1);
    expect(await outcomeOf(replica.client, { couponId, userId: `${replica.grpcPort}`, requestId: "" })).toBe("ISSUED");
  }
  const rows = await sql<{ id: string; issuedAt: Date }[]>`SELECT id, issued_at AS "issuedAt" FROM user_coupons`;
  expect(rows.filter(({ id, issuedAt }) => Math.abs(timeOf(id) - issuedAt.getTime()) > sameMs)).toEqual([]);
});
