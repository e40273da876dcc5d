import { spawn } from "node:child_process";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { durationFromMs, timestampMs } from "@bufbuild/protobuf/wkt";
import { afterAll, expect, onTestFinished, test } from "vitest";
import { CatalogService } from "../../gen/coupon/v1/catalog_service_pb.js";
import { type GrpcClient, letIn } from "../support/clients.js";
import type { ReplicaProcess } from "../support/replica.js";
import { twoProcesses } from "../support/service.js";
import { until } from "../support/until.js";
import {
  cancelOnce,
  createCappedCoupon,
  eachOf,
  type Holding,
  lockOnce,
  outcomeOf,
  type Purchase,
  sized,
  storedUses,
  useOnce,
} from "./checkout.js";
import { Audit, issueToAll, wants } from "./crowd.js";

const longMs = 600_000;
const inFlight = 200;

const { sql, replicas, clients } = await twoProcesses(afterAll);
const audit = new Audit(sql);

const clientOf = (index: number): GrpcClient => clients[index % 2] as GrpcClient;

async function issueTo(couponId: string, prefix: string, count: number): Promise<Holding[]> {
  const list = wants(couponId, prefix, count);
  const { acknowledged } = await issueToAll(list, { clients, inFlight });
  return list.map(({ userId }) => ({ userId, userCouponId: acknowledged.get(`${couponId} ${userId}`) as string }));
}

function tally(outcomes: readonly string[]): Record<string, number> {
  const counts: Record<string, number> = {};
  for (const outcome of outcomes) counts[outcome] = (counts[outcome] ?? 0) + 1;
  return counts;
}

/** A standing lock of another checkout outlasts the test; the one under test has been granted before. */
async function lengthenLocks(couponId: string): Promise<void> {
  await clients[1].call(CatalogService.method.updateCoupon, {
    coupon: { id: couponId, lockDuration: durationFromMs(60_000) },
    updateMask: { paths: ["lock_duration"] },
  });
}

test("of many uses of one user coupon at once exactly one succeeds, round after round", {
  timeout: longMs,
}, async () => {
  const [rounds, callers] = [sized(2, 100), sized(250, 2_000)];
  const couponId = await createCappedCoupon(clients[0], {});
  const holdings = await issueTo(couponId, "one", rounds);
  for (const holding of holdings) {
    const outcomes = await Promise.all(
      Array.from({ length: callers }, (_, n) =>
        outcomeOf(letIn(() => useOnce(clientOf(n), { ...holding, orderId: `order ${n}`, requestId: "" }, 20_000))),
      ),
    );
    expect(tally(outcomes)).toEqual({ OK: 1, ALREADY_USED: callers - 1 });
  }
  expect(await storedUses(audit, couponId)).toMatchObject({
    ...{ usedCount: rounds, standing: rounds, made: rounds, useCounts: rounds, wrong: 0, useEvents: rounds },
  });
});

test("uses and cancellations raced over few user coupons: counters are counts", { timeout: longMs }, async () => {
  const races = sized(300, 10_000);
  const [free, capped] = await Promise.all([
    createCappedCoupon(clients[0], { maxUses: 2 }),
    createCappedCoupon(clients[0], { maxUses: 2, usageCap: 6 }),
  ]);
  for (const couponId of [free, capped]) {
    const holdings = await issueTo(couponId, "racer", 5);
    const ownerOf = new Map<string, string>();
    let [made, orders] = [0, 0];
    /** Usages that nobody is known to have cancelled. */
    const standing = new Set<string>();
    const cancelled: string[] = [];
    const outcomes: string[] = [];
    const race = async (_: unknown, n: number) => {
      // Several callers at once want to cancel the same one.
      const target = [...standing].at(-1 - (n % 3));
      if (n % 2 === 1 && target) {
        const outcome = await outcomeOf(
          letIn(() => cancelOnce(clientOf(n >> 1), ownerOf.get(target) as string, target)),
        );
        outcomes.push(`cancel ${outcome}`);
        if (outcome === "OK") cancelled.push(target);
        standing.delete(target);
        return;
      }
      const holding = holdings[n % holdings.length] as Holding;
      const orderId = `order ${orders++} of ${couponId}`;
      const used = letIn(() => useOnce(clientOf(n >> 1), { ...holding, orderId, requestId: "" }));
      outcomes.push(`use ${await outcomeOf(used)}`);
      const id = await used.catch(() => undefined);
      if (!id) return;
      ownerOf.set(id, holding.userId);
      standing.add(id);
      made += 1;
    };
    // Of how many something is left to be cancelled hangs on who comes first: further crowds come until enough were.
    do await eachOf(Array.from({ length: races }), 100, race);
    while (cancelled.length <= races / 50);
    const known = [
      "use OK",
      "use ALREADY_USED",
      "use USAGE_CAP_REACHED",
      "cancel OK",
      "cancel USAGE_ALREADY_CANCELLED",
    ];
    expect(Object.keys(tally(outcomes)).filter((outcome) => !known.includes(outcome))).toEqual([]);
    expect(new Set(cancelled).size).toBe(cancelled.length);
    const left = made - cancelled.length;
    const stored = await storedUses(audit, couponId);
    expect(stored).toMatchObject({
      ...{ made, standing: left, usedCount: left, useCounts: left, wrong: 0, cancelledTwice: 0 },
      ...{ useEvents: made, cancelEvents: cancelled.length, placeCounts: stored.placeCount },
    });
    if (couponId === capped) expect(stored.placeCount).toBeLessThanOrEqual(6);
  }
});

/** Starts a checkout that locks everything and then waits for `proceed`. */
async function startHolder(replica: ReplicaProcess, holdings: readonly Holding[]) {
  const child = spawn(process.execPath, [fileURLToPath(new URL("./lock-holder.mjs", import.meta.url))], {
    stdio: ["pipe", "pipe", "inherit"],
  });
  onTestFinished(() => void child.kill("SIGKILL"));
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  const next = async () => JSON.parse((await lines.next()).value as string);
  child.stdin.write(`${JSON.stringify({ url: `http://127.0.0.1:${replica.httpPort}`, holdings })}\n`);
  const { locks } = (await next()) as { locks: { lockVersion: string; expireTime: string }[] };
  return {
    pid: child.pid as number,
    locks,
    proceed: async () => {
      child.stdin.write("go\n");
      return ((await next()) as { outcomes: string[] }).outcomes;
    },
  };
}

test("a checkout that is stopped past its locks can do no harm with them", { timeout: longMs }, async () => {
  const count = sized(150, 1_000);
  const couponId = await createCappedCoupon(clients[0], { lockMs: 1_000 });
  const holdings = await issueTo(couponId, "sleeper", count);
  const holder = await startHolder(replicas[0], holdings);
  process.kill(holder.pid, "SIGSTOP");
  expect(holder.locks).toHaveLength(count);
  const lastEndMs = Math.max(...holder.locks.map(({ expireTime }) => Date.parse(expireTime)));
  await until("the locks have run out", () => Date.now() > lastEndMs);

  // Of three: one is locked by another checkout, one is locked and used by it, one is left alone.
  await lengthenLocks(couponId);
  const fates = holdings.map((_, index) => ["locked", "used", "alone"][index % 3]);
  const later = new Map<number, bigint>();
  await eachOf(holdings, 50, async (holding, index) => {
    if (fates[index] === "alone") return;
    const { lockVersion } = await lockOnce(clientOf(index), holding, "another");
    expect(lockVersion).toBeGreaterThan(BigInt(holder.locks[index]!.lockVersion));
    later.set(index, lockVersion);
    if (fates[index] !== "used") return;
    await useOnce(clientOf(index), { ...holding, orderId: "another", requestId: "", lockVersion });
  });

  process.kill(holder.pid, "SIGCONT");
  const outcomes = await holder.proceed();
  expect(outcomes).toEqual(fates.map((fate) => (fate === "used" ? "ALREADY_USED" : "LOCK_LOST")));
  const late = await audit.connection()`SELECT id FROM usages WHERE coupon_id = ${couponId} AND order_id = 'stopped'`;
  expect(late).toHaveLength(0);
  // The locks of the others stand.
  await eachOf(holdings, 50, async (holding, index) => {
    if (fates[index] !== "locked") return;
    const lockVersion = later.get(index) as bigint;
    const purchase = { ...holding, orderId: "another", requestId: "", lockVersion };
    expect(await outcomeOf(useOnce(clientOf(index), purchase))).toBe("OK");
  });
});

test("a replica that is stopped with uses under way uses nothing after the locks' end", {
  timeout: longMs,
}, async () => {
  const [rounds, count] = [sized(1, 7), 150];
  const [stopped, other] = replicas;
  onTestFinished(() => void stopped.process.kill("SIGCONT"));
  const sql = audit.connection();
  const waiting = () =>
    until("a batch waits for the coupon", async () => {
      const rows = await sql`SELECT pid FROM pg_stat_activity WHERE datname = current_database()
        AND application_name = 'coupon-service' AND wait_event_type = 'Lock'`;
      return rows.length > 0;
    });
  let lateCount = 0;
  for (let round = 0; round < rounds; round++) {
    const couponId = await createCappedCoupon(other.client, { lockMs: 6_000 });
    const holdings = await issueTo(couponId, `stopped-${round}`, count);
    const ends = new Map<string, number>();
    const purchases: Purchase[] = [];
    await eachOf(holdings, count, async (holding) => {
      const { lockVersion, expireTime } = await letIn(() => lockOnce(other.client, holding, "first"));
      ends.set(holding.userCouponId, timestampMs(expireTime!));
      purchases.push({ ...holding, orderId: "first", requestId: "", lockVersion });
    });
    const sent: Promise<string>[] = [];
    let answered = 0;
    const send = (from: number, to: number) => {
      for (const purchase of purchases.slice(from, to)) {
        const outcome = outcomeOf(useOnce(stopped.client, purchase, 25_000));
        void outcome.then(() => {
          answered += 1;
        });
        sent.push(outcome);
      }
    };
    const atWork = async () => {
      const metrics = await (await fetch(`http://127.0.0.1:${stopped.httpPort}/metrics`)).text();
      return Number(/^coupon_calls_in_flight (\d+)$/m.exec(metrics)?.[1]);
    };
    // While the coupon's row is held, a batch waits in Postgres, and what comes after it waits in the replica.
    await sql.begin(async (tx) => {
      await tx`SELECT FROM coupons WHERE id = ${couponId} FOR UPDATE`;
      send(0, 1);
      await waiting();
      send(1, count);
      await until("each is at work or was turned away", async () => (await atWork()) + answered === count);
      const sentMs = Date.now();
      await until("those at work have been judged", () => Date.now() > sentMs + 150);
      stopped.process.kill("SIGSTOP");
    });
    const lastEndMs = Math.max(...ends.values());
    await until("the locks have run out", () => Date.now() > lastEndMs);
    await lengthenLocks(couponId);
    const second = new Map<string, string>();
    await eachOf(holdings, 50, async (holding) => {
      second.set(holding.userCouponId, await outcomeOf(lockOnce(other.client, holding, "second")));
    });
    stopped.process.kill("SIGCONT");
    const first = await Promise.all(sent);

    const both = purchases.filter(
      ({ userCouponId }, index) => first[index] === "OK" && second.get(userCouponId) === "OK",
    );
    expect(both).toEqual([]);
    const rows = await sql<{ id: string; used: Date }[]>`
      SELECT user_coupon_id AS id, used_at AS used FROM usages WHERE coupon_id = ${couponId}`;
    expect(rows.filter(({ id, used }) => used.getTime() >= (ends.get(id) as number))).toEqual([]);
    const { OK = 0, LOCK_LOST = 0, OVERLOADED = 0, ...others } = tally(first);
    expect([OK, OK + LOCK_LOST + OVERLOADED, others]).toEqual([rows.length, count, {}]);
    lateCount += LOCK_LOST;
  }
  // Else the test has shown nothing.
  expect(lateCount).toBeGreaterThan(rounds * 50);
});
