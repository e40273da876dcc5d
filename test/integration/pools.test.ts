import { connect, createServer, type Socket } from "node:net";
import { sql as statement } from "drizzle-orm";
import postgres, { type Sql } from "postgres";
import { afterEach, beforeEach, expect, onTestFinished, test } from "vitest";
import { DeadlinePassed, StoreUnavailable } from "../../src/domain/refusal.js";
import { Probe } from "../../src/platform/probe.js";
import { type Database, type DatabaseOptions, openDatabase } from "../../src/storage/postgres/database.js";
import { readCommitLevel } from "../../src/storage/postgres/durability.js";
import type { ErrorReport } from "../../src/storage/postgres/error-report.js";
import { isRefusal } from "../../src/storage/postgres/errors.js";
import { leastPoolSize } from "../../src/storage/postgres/pool-sizes.js";
import { probePostgres } from "../../src/storage/postgres/probe-postgres.js";
import { createStores, type TestStores } from "../support/stores.js";
import { until } from "../support/until.js";

const forever = Number.POSITIVE_INFINITY;
const poolNames = ["commits", "reads", "writes", "background"] as const;
/** Of each of ours in pg_stat_activity. */
const applicationName = "pools-test";

let stores: TestStores;
let sql: Sql;

beforeEach(async () => {
  stores = await createStores();
  sql = postgres(stores.databaseUrl, { max: 2, onnotice: () => {} });
  await sql`CREATE TABLE notes (writer text NOT NULL)`;
});
afterEach(async () => {
  await sql.end();
  await stores.drop();
});

function open(options: Partial<DatabaseOptions> = {}): Database {
  const database = openDatabase({ url: stores.databaseUrl, poolSize: 12, applicationName, ...options });
  onTestFinished(() => database.close());
  return database;
}

function probeOf(database: Database, onProbe = () => {}) {
  const changes: boolean[] = [];
  const failures: string[] = [];
  let probes = 0;
  const probe = new Probe({
    probe: (signal) => {
      probes += 1;
      const answer = probePostgres(database.probeLink, signal);
      onProbe();
      return answer;
    },
    isRefusal,
    lastAnswerMs: () => database.lastAnswerMs,
    onChange: (up) => void changes.push(up),
    onFailure: (look) => void failures.push(look),
  });
  onTestFinished(() => probe.close());
  probe.start();
  return { probe, changes, failures, probes: () => probes };
}

/** Holds every connection of a pool until it is released. */
async function hold(pool: Database["reads"]) {
  const lock = 4_711;
  const holder = await sql.reserve();
  await holder`SELECT pg_advisory_lock(${lock}::int)`;
  const held = Array.from({ length: pool.size }, () =>
    pool.run(forever, ({ sql }) => sql`SELECT pg_advisory_lock_shared(${lock}::int)`).catch((error) => error),
  );
  const countWaiting = async () =>
    (
      await sql`
        SELECT count(*)::int AS count FROM pg_stat_activity
        WHERE application_name = ${applicationName} AND wait_event = 'advisory'`
    )[0]?.count;
  await until("all are held", async () => (await countWaiting()) === pool.size);
  return {
    held,
    release: async () => {
      await holder`SELECT pg_advisory_unlock(${lock}::int)`;
      holder.release();
      await Promise.all(held);
    },
  };
}

const note = (pool: Database["reads"], writer: string, deadlineMs: number) =>
  pool.run(deadlineMs, ({ sql }) => sql`INSERT INTO notes VALUES (${writer})`);
const notes = async () => (await sql`SELECT writer FROM notes ORDER BY writer`).map(({ writer }) => writer);

test.each(poolNames)("with all connections of %s held, the other pools and the probe go on", async (name) => {
  const database = open();
  const { release } = await hold(database[name]);
  for (const other of poolNames.filter((one) => one !== name)) await note(database[other], other, Date.now() + 10_000);
  await probePostgres(database.probeLink, new AbortController().signal);
  expect(await notes()).toEqual(poolNames.filter((one) => one !== name).sort());
  expect(database[name].atWork).toBe(database[name].size);
  await release();
});

test("a pool never has more connections than its size, whatever is asked of it, and all together keep to the setting", async () => {
  const database = open({ poolSize: 7 });
  await probePostgres(database.probeLink, new AbortController().signal);
  await Promise.all(
    poolNames.flatMap((name) =>
      Array.from({ length: 30 }, (_, n) =>
        n % 2
          ? database[name].run(forever, ({ sql }) => sql`SELECT pg_sleep(0.005)`)
          : database[name].run(forever, ({ orm }) => orm.transaction((tx) => tx.execute(statement`SELECT 1`))),
      ),
    ),
  );
  const [row] = await sql`
    SELECT count(*)::int AS count FROM pg_stat_activity WHERE application_name = ${applicationName}`;
  expect(row?.count).toBe(7);
});

test("what waits longer than its caller does is told so, and is never sent", async () => {
  const database = open();
  const { release } = await hold(database.reads);
  const last = note(database.reads, "patient", Date.now() + 30_000);
  const error = await note(database.reads, "late", Date.now() + 200).catch((thrown) => thrown);
  expect(error).toBeInstanceOf(DeadlinePassed);
  await release();
  await last;
  // All that was sent has ended, for the connections are free.
  await until("the pool is idle", () => database.reads.atWork === 0);
  expect(await notes()).toEqual(["patient"]);
});

test("a transaction has its connection to itself for all its life", async () => {
  const database = open({ poolSize: 4 });
  const order: string[] = [];
  const first = database.reads.run(forever, ({ sql }) =>
    sql.begin(async (tx) => {
      await tx`SELECT 1`;
      await new Promise((resolve) => setTimeout(resolve, 50));
      order.push("last statement of the first");
      await tx`INSERT INTO notes VALUES ('first')`;
      throw new Error("rolled back");
    }),
  );
  const second = database.reads.run(forever, async ({ sql }) => {
    order.push("second");
    await sql`INSERT INTO notes VALUES ('second')`;
  });
  await expect(first).rejects.toThrow("rolled back");
  await second;
  expect(order).toEqual(["last statement of the first", "second"]);
  expect(await notes()).toEqual(["second"]);
});

test("raw SQL and Drizzle have the same connection, and both read and write times and JSON as they are", async () => {
  const database = open({ poolSize: 4 });
  const at = new Date("2030-01-02T03:04:05.678Z");
  await database.reads.run(forever, async ({ sql, orm }) => {
    const [raw] = await sql`
      SELECT pg_backend_pid() AS backend_pid, ${at}::timestamptz AS the_time, ${"2"}::text::bigint AS count`;
    const [drizzled] = await orm.execute(statement`SELECT pg_backend_pid() AS backend_pid`);
    expect(raw).toMatchObject({ theTime: at, count: 2 });
    expect(drizzled?.backendPid).toBe(raw?.backendPid);
  });
});

test.each(["the database", "its URL"])(
  "isolation, commit level and the like are set on each connection, whatever %s has set",
  async (what) => {
    const url = new URL(stores.databaseUrl);
    const others = {
      synchronous_commit: "off",
      default_transaction_isolation: "serializable",
      statement_timeout: "0",
      lock_timeout: "0",
      idle_in_transaction_session_timeout: "0",
      jit: "on",
      timezone: "Asia/Kathmandu",
    };
    for (const [setting, value] of Object.entries(others)) {
      if (what === "its URL") url.searchParams.set(setting, value);
      else await sql.unsafe(`ALTER DATABASE ${url.pathname.slice(1)} SET ${setting} = '${value}'`);
    }
    const synchronousCommit = await readCommitLevel(url.href);
    expect(synchronousCommit).toBe("on");
    const database = open({ url: url.href, synchronousCommit });
    for (const pool of poolNames) {
      for (const way of ["sql", "orm"] as const) {
        const settings = {
          synchronous_commit: "on",
          transaction_isolation: "read committed",
          statement_timeout: "5s",
          lock_timeout: "2s",
          idle_in_transaction_session_timeout: "5s",
          jit: "off",
          TimeZone: "UTC",
        };
        for (const [setting, value] of Object.entries(settings)) {
          const said = await database[pool].run(forever, async ({ sql, orm }) =>
            way === "sql"
              ? (await sql`SELECT current_setting(${setting}) AS value`)[0]?.value
              : await orm.transaction(
                  async (tx) => (await tx.execute(statement`SELECT current_setting(${setting}) AS value`))[0]?.value,
                ),
          );
          expect([pool, way, setting, said]).toEqual([pool, way, setting, value]);
        }
      }
    }
  },
);

test.each([
  ["off", "on"],
  ["local", "on"],
  ["on", "on"],
  ["remote_write", "remote_write"],
  ["remote_apply", "remote_apply"],
])("a database that has set synchronous_commit = %s commits with %s", async (set, expected) => {
  const name = new URL(stores.databaseUrl).pathname.slice(1);
  await sql.unsafe(`ALTER DATABASE ${name} SET synchronous_commit = '${set}'`);
  expect(await readCommitLevel(stores.databaseUrl)).toBe(expected);
});

test("errors are reported with their SQLSTATE, also those that come after their callers have gone", async () => {
  const reports: ErrorReport[] = [];
  // The one connection of the pool is there, so that what is late for its caller has been sent.
  const database = open({ poolSize: 4, onErrors: (report) => void reports.push(report) });
  await note(database.commits, "early", forever);
  const locker = await sql.reserve();
  await locker`BEGIN`;
  await locker`LOCK TABLE notes IN ACCESS EXCLUSIVE MODE`;
  const error = await note(database.commits, "late", Date.now() + 1_000).catch((thrown) => thrown);
  expect(error).toBeInstanceOf(DeadlinePassed);
  await until("Postgres has said why", () => reports.length === 1);
  expect(reports[0]).toMatchObject({ code: "55P03", count: 1, lateCount: 1 });
  expect(reports[0]?.message).toContain("lock timeout");
  await locker`ROLLBACK`;
  locker.release();
});

test("what a statement that fails had sent before is no part of the next result", async () => {
  const database = open({ poolSize: leastPoolSize });
  const pools = [database.commits, database.reads, database.background];
  expect(pools.map(({ size }) => size)).toEqual([1, 1, 1]);
  for (const pool of pools) {
    const failed = pool.run(forever, ({ sql }) => sql`SELECT 1 / (3 - n) FROM generate_series(1, 3) n`);
    await expect(failed).rejects.toThrow(/division by zero/);
    expect(await pool.run(forever, async ({ sql }) => [...(await sql`SELECT 7 AS one`)])).toEqual([{ one: 7 }]);
  }
  // A transaction has its own statements after that.
  await expect(
    database.commits.run(forever, ({ orm }) =>
      orm.transaction((tx) => tx.execute(statement`SELECT 1 / (3 - n) FROM generate_series(1, 3) n`)),
    ),
  ).rejects.toThrow();
  expect(await database.commits.run(forever, ({ orm }) => orm.execute(statement`SELECT 7 AS one`))).toHaveLength(1);
});

test("an event loop that is held for seconds says nothing of Postgres", async () => {
  const database = open();
  // As a computation would, but others may have the processor meanwhile.
  const nothing = new Int32Array(new SharedArrayBuffer(4));
  const hold = () => void Atomics.wait(nothing, 0, 0, 3_000);
  let holds = 0;
  // The question has just been sent, and the answer comes meanwhile.
  const { probe, changes, failures, probes } = probeOf(database, () => {
    if (probes() > 1 && holds++ < 2) setImmediate(hold);
  });
  await until("it has been held twice", () => holds >= 2);
  const before = probes();
  await until("it was probed since", () => probes() > before + 1);
  // And while it pauses.
  hold();
  await until("it was probed since", () => probes() > before + 3);
  expect([probe.up, changes, failures]).toEqual([true, [], []]);
});

/** Stands between us and Postgres, and can fall silent: what is sent arrives nowhere, and nothing is closed. */
async function openProxy() {
  const target = new URL(stores.databaseUrl);
  const sockets = new Set<Socket>();
  /** Sockets that were there, or came, while it was silent: what is lost on the way never comes. */
  const mute = new Set<Socket>();
  let isSilent = false;
  const server = createServer((client) => {
    const server = connect(Number(target.port), target.hostname);
    const pairs: [Socket, Socket][] = [
      [client, server],
      [server, client],
    ];
    for (const [from, to] of pairs) {
      sockets.add(from);
      if (isSilent) mute.add(from);
      from.on("data", (bytes) => void (mute.has(from) || to.write(bytes)));
      from.on("error", () => {});
      from.on("close", () => to.destroy());
    }
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const url = new URL(stores.databaseUrl);
  url.port = String((server.address() as { port: number }).port);
  const stop = () => {
    for (const socket of sockets) socket.destroy();
    return new Promise((resolve) => server.close(resolve));
  };
  onTestFinished(async () => void (await stop()));
  return {
    url: url.href,
    fallSilent: () => {
      isSilent = true;
      for (const socket of sockets) mute.add(socket);
    },
    speak: () => {
      isSilent = false;
    },
    stop,
  };
}

test("silence is noticed, and that it is over, by a connection of its own that is opened anew", async () => {
  const proxy = await openProxy();
  const database = open({ url: proxy.url });
  const { probe, changes, failures, probes } = probeOf(database);
  await until("the probe has its connection, too", () => probes() >= 2);
  proxy.fallSilent();
  await until("it is away", () => !probe.up);
  expect(failures).toEqual(["FAILED", "FAILED", "FAILED"]);
  // Only what is opened now gets through.
  proxy.speak();
  await until("it is back", () => probe.up);
  expect(changes).toEqual([false, true]);
});

test("as long as commits succeed, a probe that is not answered says nothing", async () => {
  const proxy = await openProxy();
  const direct = open();
  const proxied = open({ url: proxy.url });
  const database = { probeLink: proxied.probeLink, lastAnswerMs: 0 } as unknown as Database;
  const seen = probeOf(Object.defineProperty(database, "lastAnswerMs", { get: () => direct.lastAnswerMs }));
  proxy.fallSilent();
  await until("five probes have failed", async () => {
    await note(direct.commits, "works", forever);
    return seen.failures.length >= 5;
  });
  expect(seen.changes).toEqual([]);
  await until("nothing is committed any more, and it is away", () => !seen.probe.up);
});

test("refused connections are noticed at once", async () => {
  const proxy = await openProxy();
  const database = open({ url: proxy.url });
  const { probe, failures } = probeOf(database);
  await probePostgres(database.probeLink, new AbortController().signal);
  await proxy.stop();
  expect(await note(database.commits, "refused", forever).catch((thrown) => thrown)).toBeInstanceOf(StoreUnavailable);
  await until("it is away", () => !probe.up);
  expect(failures.filter((look) => look === "REFUSED")).toHaveLength(1);
});
