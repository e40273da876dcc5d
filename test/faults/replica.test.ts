import { beforeEach, expect, onTestFinished, test } from "vitest";
import { RedisGate } from "../../src/reservation/redis/redis-gate.js";
import type { Replica, ReplicaProcess } from "../support/replica.js";
import { backing, startProcesses, startReplicas } from "../support/service.js";
import type { TestStores } from "../support/stores.js";
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
  untilGateIsEven,
  wants,
} from "./crowd.js";

let stores: TestStores;
let audit: Audit;
let survivor: Replica;
let victim: ReplicaProcess;

beforeEach(async () => {
  const around = await backing(onTestFinished);
  stores = around.stores;
  audit = new Audit(around.sql);
  // Only one of them is ever killed.
  [[survivor], [victim]] = await Promise.all([
    startReplicas(onTestFinished, stores, {}),
    startProcesses(onTestFinished, stores, {}),
  ]);
});

const exactly = (n: number) => ({ issuedCount: n, rows: n, users: n, events: n });

test("one of two is killed under load: nothing acknowledged is missing, nothing is sold twice", async () => {
  const quantity = sized(400, 2_000);
  const couponId = await createCoupon(survivor.client, quantity);
  let killing: Promise<void> | undefined;
  const tally = await issueToAll(wants(couponId, "user", quantity * 1.25), {
    clients: [survivor.client, victim.client],
    inFlight: sized(150, 400),
    onAcknowledged: (count) => {
      if (count >= quantity * 0.3) killing ??= victim.process.kill("SIGKILL") ? Promise.resolve() : undefined;
    },
  });
  expect(killing).toBeDefined();
  expect([...tally.passing.values()].reduce((sum, count) => sum + count, 0)).toBeGreaterThan(0);
  const rest = await sellTheRest(audit, [survivor.client], couponId, quantity);
  expect(await audit.stored(couponId)).toEqual(exactly(quantity));
  expect(await missing(audit, tally, rest)).toEqual([]);
  expect(await refusedButStored(audit, tally)).toEqual([]);
  expect([...tally.refused.keys()].filter((reason) => reason !== "SOLD_OUT")).toEqual([]);
  await untilGateIsEven(audit, stores, new Map([[couponId, quantity]]));
});

test("stock that a killed replica held is sellable again", async () => {
  const quantity = 100;
  const held = 60;
  const couponId = await createCoupon(survivor.client, quantity);
  const gate = new RedisGate({ url: stores.redisUrl, keyPrefix: stores.keyPrefix, failures: unreported });
  await gate.ready();
  const survey = async () => (await gate.survey(100, 100)).find((one) => one.couponId === couponId);
  try {
    await until("the coupon is loaded", async () => {
      if ((await survey())?.loaded) return true;
      await issue(victim.client, { couponId, userId: "first", requestId: "first" });
      return false;
    });
    expect((await survey())?.loaded?.stock).toBe(quantity - 1);

    // An open transaction holds the coupon's row, so what the victim reserves cannot be decided.
    const doomed: Promise<unknown>[] = [];
    let answered = 0;
    const count = () => {
      answered += 1;
    };
    const pending = async () => (await survey())?.pendingCount ?? 0;
    await audit.connection().begin(async (tx) => {
      await tx`SELECT FROM coupons WHERE id = ${couponId} FOR UPDATE`;
      for (const want of wants(couponId, "doomed", held)) doomed.push(issue(victim.client, want).then(count, count));
      // On a busy machine the victim lets fewer in, and turns the others away.
      await until("each is reserved or turned away", async () => (await pending()) + answered === held);
      await victim.kill();
      expect(await pending()).toBeGreaterThan(0);
    });
    await Promise.all(doomed);

    const sold = await sellTheRest(audit, [survivor.client], couponId, quantity);
    // A batch that Postgres already had may have been committed; of the rest nothing may be left behind.
    const stored = await audit.stored(couponId);
    expect(stored).toEqual(exactly(quantity));
    expect(await missing(audit, sold)).toEqual([]);
    await untilGateIsEven(audit, stores, new Map([[couponId, quantity]]));
  } finally {
    await gate.close();
  }
});

test("SIGTERM under load: what is under way is answered, and the others find a replica that serves", async () => {
  const quantity = sized(400, 1_500);
  const couponId = await createCoupon(survivor.client, quantity);
  let stopping: Promise<number | null> | undefined;
  const tally = await issueToAll(wants(couponId, "user", quantity), {
    clients: [survivor.client, victim.client],
    inFlight: 200,
    onAcknowledged: (count) => {
      if (count < quantity / 3 || stopping) return;
      victim.process.kill("SIGTERM");
      stopping = new Promise((resolve) => victim.process.once("exit", resolve));
    },
  });
  expect(await stopping).toBe(0);
  expect(tally.acknowledged.size).toBe(quantity);
  expect(await missing(audit, tally)).toEqual([]);
  expect(await audit.stored(couponId)).toEqual(exactly(quantity));
  await untilGateIsEven(audit, stores, new Map([[couponId, quantity]]));
});
