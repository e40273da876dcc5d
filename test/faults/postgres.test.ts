import { execFileSync } from "node:child_process";
import { randomUUID } from "node:crypto";
import postgres from "postgres";
import { afterAll, beforeAll, expect, inject, onTestFinished, test } from "vitest";
import { type EmbeddedServers, startEmbedded } from "../../embedded/embedded.js";
import { CallError } from "../support/clients.js";
import { type Replica, startShared } from "../support/replica.js";
import { until } from "../support/until.js";
import { sized } from "./checkout.js";
import { Audit, createCoupon, issue, issueToAll, missing, sellTheRest, Tally, type Want, wants } from "./crowd.js";
import { health } from "./health.js";

const quantity = sized(500, 1_500);

let own: EmbeddedServers;
let databaseUrl: string;

beforeAll(async () => {
  // A Postgres of its own: here it is frozen and killed.
  own = await startEmbedded({ servers: ["postgres"] });
  if (!own.databaseUrl) throw new Error("no Postgres could be started");
  databaseUrl = own.databaseUrl;
});
afterAll(() => own?.stop());

async function start(settings: Record<string, string> = {}): Promise<Replica> {
  const stores = { databaseUrl, redisUrl: inject("redisUrl"), keyPrefix: `faults-${randomUUID()}` };
  const replica = await startShared(0, stores, settings);
  onTestFinished(async () => void (await replica.stop()));
  return replica;
}

function openAudit(): Audit {
  const sql = postgres(databaseUrl, { max: 2, onnotice: () => {}, connect_timeout: 5 });
  onTestFinished(() => sql.end({ timeout: 1 }));
  return new Audit(sql);
}

/** Every process with its parent. */
function processes(): number[][] {
  const rows = execFileSync("ps", ["-A", "-o", "pid=,ppid="], { encoding: "utf8" }).trim().split("\n");
  return rows.map((row) => row.trim().split(/\s+/).map(Number));
}

function signalAll(pids: readonly number[], signal: NodeJS.Signals): void {
  for (const pid of pids) {
    try {
      process.kill(pid, signal);
    } catch {
      // A session that has ended meanwhile.
    }
  }
}

/**
 * Holds still the server and all its sessions until `thaw`. The postmaster first: it starts no session any more. With one
 * session left at work, that one would answer for all of them.
 */
function freeze(): { thaw(): void } {
  const postmaster = own.postgresPid as number;
  signalAll([postmaster], "SIGSTOP");
  const sessions = processes().flatMap(([pid, parent]) => (parent === postmaster ? [pid as number] : []));
  signalAll(sessions, "SIGSTOP");
  const thaw = () => signalAll([postmaster, ...sessions], "SIGCONT");
  onTestFinished(thaw);
  return { thaw };
}

/** The reason of the refusal; "ISSUED" if there was none. */
async function reasonOf(replica: Replica, want: Want, timeoutMs = 8_000): Promise<string> {
  try {
    await issue(replica.client, want, timeoutMs);
    return "ISSUED";
  } catch (error) {
    if (error instanceof CallError) return `${error.code} ${error.reason}`;
    throw error;
  }
}

const isReady = async (replica: Replica) => (await fetch(`http://127.0.0.1:${replica.httpPort}/readyz`)).status;

async function expectDown(replica: Replica, couponId: string): Promise<void> {
  await until("health says so", async () => (await health(replica.grpcPort)) === "NOT_SERVING");
  expect(await health(replica.grpcPort, "coupon.v1.IssuanceService")).toBe("NOT_SERVING");
  expect(await isReady(replica)).toBe(503);
  // Refused before its deadline, and before a statement would be given up: a caller is told why, and that a retry helps.
  const error = await issue(replica.client, wants(couponId, "during", 1)[0] as Want, 4_500).catch((thrown) => thrown);
  expect(error).toBeInstanceOf(CallError);
  expect(error).toMatchObject({ code: 14, reason: "STORE_UNAVAILABLE" });
  expect(error.retryDelayMs).toBeGreaterThan(0);
}

const expectTold = (crowd: Tally) => until("told why", () => crowd.passing.has("14 STORE_UNAVAILABLE"));

/** A sale with an outage in the middle; `outage` is waited for before the books are checked. */
async function sale(replica: Replica, outage: (couponId: string, crowd: Tally) => Promise<void>): Promise<void> {
  const couponId = await createCoupon(replica.client, quantity);
  let during: Promise<void> | undefined;
  const list = wants(couponId, "user", quantity * 1.2);
  const tally = new Tally();
  await issueToAll(list, {
    clients: [replica.client],
    inFlight: sized(40, 200),
    onAcknowledged: (count) => {
      if (count >= quantity / 3) during ??= outage(couponId, tally);
    },
    tally,
  });
  await during;
  await until("it serves again by itself", async () => (await health(replica.grpcPort)) === "SERVING");
  expect(await isReady(replica)).toBe(200);

  const audit = openAudit();
  const rest = await sellTheRest(audit, [replica.client], couponId, quantity);
  expect(await audit.stored(couponId)).toEqual({
    issuedCount: quantity,
    rows: quantity,
    users: quantity,
    events: quantity,
  });
  expect(await missing(audit, tally, rest)).toEqual([]);
  expect([...tally.refused.keys()].filter((reason) => reason !== "SOLD_OUT")).toEqual([]);
  // On the way: only what the contract knows, and the client's own deadline (which has no reason).
  const known = ["14 STORE_UNAVAILABLE", "14 OVERLOADED", "4 DEADLINE_EXCEEDED", "4 undefined"];
  expect([...tally.passing.keys()].filter((kind) => !known.includes(kind))).toEqual([]);

  // Once more with the same request ids: everybody who got one gets the same one, and nobody a second.
  const again = await issueToAll(list, { clients: [replica.client], inFlight: 100 });
  expect(new Map([...again.acknowledged].sort())).toEqual(new Map([...tally.acknowledged].sort()));
  expect(again.replayed).toBe(tally.acknowledged.size);
  expect((await audit.stored(couponId)).rows).toBe(quantity);
}

test("killed in the middle of a sale: refused with the reason, and served again by itself", async () => {
  const replica = await start();
  await sale(replica, async (couponId, crowd) => {
    const before = own.postgresPid as number;
    // Held still until callers have been asked: it starts Postgres again within a second or two.
    const supervisor = processes().find(([pid]) => pid === before)?.[1] as number;
    onTestFinished(() => void process.kill(supervisor, "SIGCONT"));
    process.kill(supervisor, "SIGSTOP");
    process.kill(before, "SIGKILL");
    await expectDown(replica, couponId);
    await expectTold(crowd);
    process.kill(supervisor, "SIGCONT");
    await until("it was started again", () => own.postgresPid !== before);
  });
});

test("frozen in the middle of a sale: refused with the reason, and served again by itself", async () => {
  const replica = await start();
  await sale(replica, async (couponId, crowd) => {
    const { thaw } = freeze();
    await expectDown(replica, couponId);
    await expectTold(crowd);
    thaw();
  });
});

test("a call that Postgres leaves unanswered is answered at its deadline", async () => {
  const replica = await start({ MAX_DEADLINE_MS: "1500" });
  const couponId = await createCoupon(replica.client, 10);
  const audit = openAudit();
  // The connection is open already, so nothing but the deadline ends the wait.
  expect(await reasonOf(replica, wants(couponId, "first", 1)[0] as Want)).toBe("ISSUED");
  const { thaw } = freeze();
  const want = wants(couponId, "user", 1)[0] as Want;
  // The server cuts every deadline to 1.5 s; the client would wait for five times as long.
  const reason = await reasonOf(replica, want, 7_500);
  thaw();
  expect(["4 DEADLINE_EXCEEDED", "14 STORE_UNAVAILABLE"]).toContain(reason);
  // Whether it took effect was not known; the same request tells, and there is one row in the end.
  await until("the retry is answered", async () => (await reasonOf(replica, want)) === "ISSUED");
  expect(await audit.stored(couponId)).toMatchObject({ rows: 2, users: 2, issuedCount: 2 });
});

test("away when the service runs idle: health says so, and says when it is over", async () => {
  const replica = await start();
  expect(await health(replica.grpcPort)).toBe("SERVING");
  const couponId = await createCoupon(replica.client, 10);
  const before = own.postgresPid as number;
  process.kill(before, "SIGKILL");
  await expectDown(replica, couponId);
  await until("it serves again", async () => (await health(replica.grpcPort)) === "SERVING");
  expect(await reasonOf(replica, wants(couponId, "after", 1)[0] as Want)).toBe("ISSUED");
});
