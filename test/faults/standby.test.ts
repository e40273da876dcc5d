import { randomUUID } from "node:crypto";
import { afterAll, beforeAll, expect, inject, test } from "vitest";
import { UserCouponService } from "../../gen/coupon/v1/user_coupon_service_pb.js";
import { type PostgresPair, startPair } from "../support/postgres-pair.js";
import { type Replica, runService, startShared } from "../support/replica.js";
import { until } from "../support/until.js";
import { Audit, createCoupon, issue, issueToAll, missing, outcomeOf, type Want, wants } from "./crowd.js";
import { health } from "./health.js";

/** A primary and its standby, and a replica that knows of both. The last test promotes the standby. */
let pair: PostgresPair;
let stores: { databaseUrl: string; redisUrl: string; keyPrefix: string };
let replica: Replica;

beforeAll(async () => {
  pair = await startPair();
  stores = { databaseUrl: pair.url, redisUrl: inject("redisUrl"), keyPrefix: `standby-${randomUUID()}` };
  replica = await startShared(0, stores);
});
afterAll(async () => {
  await replica?.stop();
  await pair?.stop();
});

const untilHealth = (word: string) =>
  until(`health says ${word}`, async () => (await health(replica.grpcPort)) === word);

test("a start with nothing but a standby ends, says why, and tells no password", async () => {
  const { code, out, errors } = await runService({
    DATABASE_URL: pair.standby.url,
    REDIS_URL: stores.redisUrl,
    DATABASE_START_WAIT_MS: "5000",
  });
  expect(code).toBe(1);
  expect(errors).toContain("DATABASE_START_WAIT_MS");
  expect(errors).toContain(`${pair.standby.address} is a standby`);
  expect(out).toContain("postgres is not ready; waiting for it");
  expect(out + errors).not.toContain(new URL(pair.standby.url).password);
});

test("a COMMIT whose wait for the standby is cut off is not acknowledged before the standby has it", async () => {
  const couponId = await createCoupon(replica.client, 10);
  const [first, want] = wants(couponId, "user", 2) as [Want, Want];
  expect(await outcomeOf(replica.client, first)).toBe("ISSUED");
  const { sql } = pair.primary;
  await pair.standby.freeze();
  const answer = outcomeOf(replica.client, want);
  await until("its wait is cut off", async () => {
    const cut = await sql`
      SELECT pg_cancel_backend(pid) FROM pg_stat_activity
      WHERE application_name = 'coupon-service' AND wait_event = 'SyncRep'`;
    return cut.length > 0;
  });
  // It has happened, and all could see it.
  const audit = new Audit(sql);
  await until("it is there", async () => (await audit.stored(couponId)).rows === 2);
  expect(["STORE_UNAVAILABLE", "DEADLINE_EXCEEDED", "code 4"]).toContain(await answer);
  // Nor is it shown.
  const listed = replica.client.call(UserCouponService.method.listUserCoupons, { userId: want.userId });
  await expect(listed).rejects.toMatchObject({ reason: "STORE_UNAVAILABLE" });
  pair.standby.thaw();
  await untilHealth("SERVING");
  await until("it is issued", async () => /^(ISSUED|REPLAYED)/.test(await outcomeOf(replica.client, want)));
  expect(await audit.stored(couponId)).toMatchObject({ rows: 2, issuedCount: 2 });
});

test("a primary that is set read-only is away, and is back when that is over", async () => {
  const couponId = await createCoupon(replica.client, 10);
  const [want] = wants(couponId, "user", 1) as [Want];
  const { sql } = pair.primary;
  await sql`ALTER SYSTEM SET default_transaction_read_only = on`;
  await sql`SELECT pg_reload_conf()`;
  await untilHealth("NOT_SERVING");
  expect(await outcomeOf(replica.client, want)).toBe("STORE_UNAVAILABLE");
  await sql`ALTER SYSTEM RESET default_transaction_read_only`;
  await sql`SELECT pg_reload_conf()`;
  await untilHealth("SERVING");
  await until("it is issued", async () => (await outcomeOf(replica.client, want)) === "ISSUED");
  expect(replica.log()).not.toContain('"call failed"');
});

test("the standby is promoted while the primary lives: what waits there is asked of the new one, and so is all else", async () => {
  const couponId = await createCoupon(replica.client, 100);
  const [first, ...list] = wants(couponId, "moved", 41) as [Want, ...Want[]];
  expect(await outcomeOf(replica.client, first)).toBe("ISSUED");
  await pair.promote();
  // The old one answers as ever, and commits nothing any more.
  const tally = await issueToAll(list, { clients: [replica.client], inFlight: 20 });
  expect(tally.acknowledged.size).toBe(list.length);
  const [now, before] = [new Audit(pair.standby.sql), new Audit(pair.primary.sql)];
  expect(await missing(now, tally)).toEqual([]);
  expect(await now.stored(couponId)).toEqual({ issuedCount: 41, rows: 41, users: 41, events: 41 });
  expect(await before.stored(couponId)).toMatchObject({ rows: 1 });
  const { userCoupons } = await replica.client.call(UserCouponService.method.listUserCoupons, {
    userId: (list[0] as Want).userId,
  });
  expect(userCoupons).toHaveLength(1);
  const metrics = await (await fetch(`http://127.0.0.1:${replica.httpPort}/metrics`)).text();
  expect(metrics).toMatch(/^coupon_postgres_moves_total 1$/m);

  // One that starts now knows of no promotion, and finds two primaries.
  const late = await startShared(1, stores);
  try {
    const { replayed } = await issue(late.client, list[0] as Want);
    expect(replayed).toBe(true);
    expect(await outcomeOf(late.client, wants(couponId, "late", 1)[0] as Want)).toBe("ISSUED");
  } finally {
    await late.stop();
  }
  expect(await now.stored(couponId)).toMatchObject({ rows: 42 });
});
