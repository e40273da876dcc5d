import { randomUUID } from "node:crypto";
import { afterAll, beforeAll, expect, inject, test } from "vitest";
import type { GrpcClient } from "../support/clients.js";
import { type PostgresPair, startPair } from "../support/postgres-pair.js";
import { type Replica, startShared } from "../support/replica.js";
import { until } from "../support/until.js";
import { scale, sized } from "./checkout.js";
import {
  Audit,
  createCoupon,
  issue,
  issueToAll,
  missing,
  outcomeOf,
  refusedButStored,
  sellTheRest,
  Tally,
  untilGateIsEven,
  type Want,
  wants,
} from "./crowd.js";
import { health } from "./health.js";

/** A primary and its standby, and two replicas that know of both. */
let pair: PostgresPair;
let stores: { databaseUrl: string; redisUrl: string; keyPrefix: string };
let replicas: readonly Replica[] = [];
let clients: readonly GrpcClient[];

beforeAll(async () => {
  pair = await startPair();
  stores = { databaseUrl: pair.url, redisUrl: inject("redisUrl"), keyPrefix: `promotion-${randomUUID()}` };
  replicas = [await startShared(0, stores), await startShared(1, stores)];
  clients = replicas.map(({ client }) => client);
});
afterAll(async () => {
  await Promise.all(replicas.map((replica) => replica.stop()));
  await pair?.stop();
});

/** For the whole size on a busy machine. */
const longMs = 400_000;

let isPromoted = false;
/** Kills the primary, and promotes the standby when `meanwhile` is done. */
async function failOver(meanwhile: () => Promise<unknown> = async () => {}): Promise<void> {
  await pair.primary.kill();
  await meanwhile();
  await pair.promote();
  isPromoted = true;
}

const serving = async () => (await Promise.all(replicas.map(({ grpcPort }) => health(grpcPort)))).join();

test(
  "the primary is killed in the middle of a sale and its standby promoted: nothing acknowledged is lost",
  async () => {
    const quantity = sized(600, 10_000);
    const couponId = await createCoupon(clients[0] as GrpcClient, quantity);
    const list = wants(couponId, "user", Math.ceil(quantity * 1.1));
    const tally = new Tally();
    /** When each yes was said. */
    const saidMs: number[] = [];
    const times: Record<string, number> = {};
    const note = (what: string) => {
      times[what] = Date.now();
    };
    let failover: Promise<unknown> | undefined;
    const begin = async () => {
      note("killed");
      await failOver(async () => {
        await until("callers are told", () => tally.passing.has("14 STORE_UNAVAILABLE"));
        note("told");
      });
      note("promoted");
    };
    await issueToAll(list, {
      clients,
      tally,
      inFlight: sized(100, 400),
      perSecond: sized(300, 800),
      onAcknowledged: (count) => {
        saidMs.push(Date.now());
        if (count >= quantity / 4) failover ??= begin().catch((error) => error);
      },
    });
    expect(await failover).toBeUndefined();
    await until("both serve", async () => (await serving()) === "SERVING,SERVING");

    const audit = new Audit(pair.standby.sql);
    const rest = await sellTheRest(audit, clients, couponId, quantity);
    const stored = { issuedCount: quantity, rows: quantity, users: quantity, events: quantity };
    expect(await audit.stored(couponId)).toEqual(stored);
    expect(await missing(audit, tally, rest)).toEqual([]);
    expect(await refusedButStored(audit, tally)).toEqual([]);
    expect([...tally.refused.keys()].filter((reason) => reason !== "SOLD_OUT")).toEqual([]);
    const known = ["14 STORE_UNAVAILABLE", "14 OVERLOADED", "4 DEADLINE_EXCEEDED", "4 undefined"];
    expect([...tally.passing.keys()].filter((kind) => !known.includes(kind))).toEqual([]);
    // What the old primary had committed is all there: the gate's equation holds as it is.
    await untilGateIsEven(audit, stores, new Map([[couponId, quantity]]));

    // Whoever was told yes has the same one still.
    const again = await issueToAll(list, { clients, inFlight: 100 });
    expect(new Map([...again.acknowledged].sort())).toEqual(new Map([...tally.acknowledged].sort()));
    expect(await audit.stored(couponId)).toEqual(stored);
    for (const replica of replicas) expect(replica.log()).not.toContain('"call failed"');
    if (scale > 0) report(saidMs, times);
  },
  longMs,
);

function report(saidMs: readonly number[], times: Record<string, number>): void {
  const from = times.killed as number;
  const goodput = Array.from({ length: 12 }, (_, n) => {
    const at = from - 2_000 + n * 500;
    return `${((at - from) / 1_000).toFixed(1)} s: ${saidMs.filter((ms) => ms >= at && ms < at + 500).length * 2}/s`;
  });
  const first = saidMs.find((ms) => ms > (times.promoted as number) - 300);
  process.stdout.write(
    `told after ${(times.told as number) - from} ms, promoted after ${(times.promoted as number) - from} ms, ` +
      `first yes after ${(first ?? 0) - from} ms\n  ${goodput.join("\n  ")}\n`,
  );
}

test("the old primary comes back as it was, beside the new one and alone: nobody is answered from it", async () => {
  if (!isPromoted) await failOver();
  await pair.primary.revive();
  const old = pair.primary.sql;
  await until("it is a primary, as ever", async () => {
    const [row] = await old`SELECT pg_is_in_recovery() AS standby`;
    return row?.standby === false;
  });
  // And one that would commit: it does not wait for a standby any more.
  await old`ALTER SYSTEM RESET synchronous_standby_names`;
  await old`SELECT pg_reload_conf()`;
  const client = clients[0] as GrpcClient;
  const couponId = await createCoupon(client, 10);
  const [first, second, third] = wants(couponId, "user", 3) as [Want, Want, Want];
  expect(await outcomeOf(client, first)).toBe("ISSUED");

  // With both there, and all connections to be made anew.
  await pair.standby.sql`
    SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'coupon-service%'`;
  await until("it goes on", async () => (await outcomeOf(client, second)) !== "STORE_UNAVAILABLE");
  expect(await new Audit(pair.standby.sql).stored(couponId)).toMatchObject({ rows: 2 });

  // With the old one alone. It would answer, and would not find what is sold.
  await pair.standby.kill();
  await until("neither serves", async () => (await serving()) === "NOT_SERVING,NOT_SERVING");
  for (const one of clients) expect(await outcomeOf(one, third)).toBe("STORE_UNAVAILABLE");
  for (const one of clients) expect(await outcomeOf(one, first)).toBe("STORE_UNAVAILABLE");
  await pair.standby.revive();
  await until("both serve", async () => (await serving()) === "SERVING,SERVING");
  for (const one of clients) {
    await until("it is issued", async () =>
      ["ISSUED", "REPLAYED"].includes((await outcomeOf(one, third)).split(" ")[0] ?? ""),
    );
  }
  const { replayed } = await issue(client, first);
  expect(replayed).toBe(true);
  expect(await new Audit(pair.standby.sql).stored(couponId)).toMatchObject({ rows: 3, issuedCount: 3 });
  const sold = await old`SELECT FROM coupons WHERE id = ${couponId}`;
  expect(sold).toHaveLength(0);
});
