import { randomUUID } from "node:crypto";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import postgres, { type Sql } from "postgres";
import { afterEach, beforeEach, expect, inject, test } from "vitest";
import { packageRoot } from "../../src/platform/package-root.js";
import { migrate, whatIsMissing } from "../../src/storage/postgres/migrating/migrate.js";
import { createStores } from "../support/stores.js";
import { until } from "../support/until.js";
import { applyMigrations, ofVersion01 } from "./earlier-database.js";

/** What whoever migrates does to replicas of an earlier release that serve meanwhile. */

let url: string;
let name: string;
let admin: Sql;
const clients: Sql[] = [];

function connect(applicationName: string): Sql {
  const connection = { search_path: "public", application_name: applicationName };
  const client = postgres(url, { max: 1, onnotice: () => {}, connection });
  clients.push(client);
  return client;
}

beforeEach(async () => {
  name = `earlier_${randomUUID().replaceAll("-", "")}`;
  admin = postgres(inject("databaseUrl"), { max: 1, onnotice: () => {} });
  await admin.unsafe(`CREATE DATABASE ${name} TEMPLATE template0`);
  const changed = new URL(inject("databaseUrl"));
  changed.pathname = `/${name}`;
  url = changed.href;
});
afterEach(async () => {
  for (const client of clients.splice(0)) await client.end();
  await admin.unsafe(`DROP DATABASE ${name} WITH (FORCE)`);
  await admin.end();
});

interface Waiting {
  /** Holds up whoever migrates at this table. */
  readonly table: string;
  readonly meanwhile: (waitingPid: number) => Promise<void>;
}

/** Migrates while another session uses a table, and calls `meanwhile` when it is waited for. */
async function migrateBeside(sql: Sql, { table, meanwhile }: Waiting): Promise<void> {
  const holder = connect("holder");
  let migrating: Promise<unknown> | undefined;
  await holder.begin(async (tx) => {
    await tx.unsafe(`LOCK TABLE ${table} IN ROW EXCLUSIVE MODE`);
    migrating = migrate(url);
    let waitingPid = 0;
    await until("the table is waited for", async () => {
      const [row] = await sql<{ pid: number }[]>`
        SELECT pid FROM pg_locks WHERE relation = ${table}::regclass AND NOT granted`;
      waitingPid = row?.pid ?? 0;
      return waitingPid > 0;
    });
    await meanwhile(waitingPid);
  });
  await migrating;
  expect(await whatIsMissing(url)).toEqual([]);
}

test("plans that an earlier release made of small tables are made anew, before anybody waits for a lock", async () => {
  const old = connect("an earlier replica");
  await applyMigrations(old, ofVersion01);
  await old`ALTER TABLE requests SET (autovacuum_enabled = false)`;
  const fill = (from: number, to: number) => old`
    INSERT INTO requests SELECT 'UseCoupons', 'request ' || n, '', '{}', now() FROM generate_series(${from}::int, ${to}::int) n`;
  await old`SET plan_cache_mode = force_generic_plan`;
  await old`PREPARE by_request (text) AS SELECT FROM requests WHERE method = 'UseCoupons' AND request_id = $1`;
  const plan = async () => JSON.stringify(await old.unsafe("EXPLAIN EXECUTE by_request ('request 1')"));
  // On a busy server a session that is behind with what others have changed plans everything anew.
  await until("a plan of the small table is kept while nobody has looked at it", async () => {
    await old`TRUNCATE requests`;
    await fill(1, 1);
    await old`VACUUM ANALYZE requests`;
    expect(await plan()).toContain("Seq Scan");
    await fill(2, 5_000);
    return (await plan()).includes("Seq Scan");
  });

  const meanwhile = async () => expect(await plan()).toMatch(/Index (Only )?Scan/);
  await migrateBeside(connect("test"), { table: "coupons", meanwhile });
});

test("while the columns of one table wait for its lock, no other table is locked", async () => {
  const sql = connect("test");
  await applyMigrations(sql, ofVersion01);
  const meanwhile = async (pid: number) => {
    const held = await sql`
      SELECT c.relname AS name FROM pg_locks l JOIN pg_class c ON c.oid = l.relation
      WHERE l.pid = ${pid} AND l.granted AND c.relnamespace = 'public'::regnamespace AND c.relkind = 'r'`;
    expect(held.map((row) => row.name)).toEqual([]);
  };
  await migrateBeside(sql, { table: "user_coupons", meanwhile });
});

test("whoever has tried for some time waits once for as long as it takes until autovacuum gives way", async () => {
  const sql = connect("test");
  await applyMigrations(sql, ofVersion01);
  const meanwhile = async () =>
    void (await until(
      "it waits for that long",
      async () => {
        const long = await sql`
          SELECT FROM pg_locks WHERE relation = 'coupons'::regclass AND NOT granted
            AND clock_timestamp() - waitstart > current_setting('deadlock_timeout')::interval`;
        return long.length === 1;
      },
      30_000,
    ));
  await migrateBeside(sql, { table: "coupons", meanwhile });
});

const columnsOf = (sql: Sql) => sql`
  SELECT table_name, column_name, data_type, is_nullable, column_default FROM information_schema.columns
  WHERE table_schema = 'public' AND table_name !~ '^events_' ORDER BY 1, 2`;

test("a start that was cut off is completed by the next, and the columns are those of a new database", async () => {
  const sql = connect("test");
  await applyMigrations(sql, ofVersion01);
  await sql`ALTER TABLE coupons ADD COLUMN free_from bigint DEFAULT 0 NOT NULL, ADD COLUMN labels jsonb`;
  await sql`ALTER TABLE usages ADD COLUMN labels jsonb`;
  await migrate(url);
  expect(await whatIsMissing(url)).toEqual([]);
  const stores = await createStores();
  const made = postgres(stores.databaseUrl, { max: 1 });
  try {
    expect(await columnsOf(sql)).toEqual(await columnsOf(made));
  } finally {
    await made.end();
    await stores.drop();
  }
});

/** Whether a session of a replica, and one of somebody else, are still there after the upgrade. */
async function sessionsAfter(migrationCount: number): Promise<{ replica: boolean; other: boolean }> {
  const sql = connect("test");
  await applyMigrations(sql, migrationCount);
  const pidsOf = (client: Sql) => client`SELECT pg_backend_pid() AS pid`.then(([row]) => row?.pid);
  const [replica, other] = [connect("coupon-service"), connect("dashboards")];
  const before = { replica: await pidsOf(replica), other: await pidsOf(other) };
  await migrate(url);
  const there = async (pid: number) => (await sql`SELECT FROM pg_stat_activity WHERE pid = ${pid}`).length === 1;
  return { replica: await there(before.replica), other: await there(before.other) };
}

test("sessions of version 0.1 end when coupons get columns that it would read by mistake", async () => {
  expect(await sessionsAfter(ofVersion01)).toEqual({ replica: false, other: true });
});

test("sessions of later releases stay", async () => {
  expect(await sessionsAfter(ofVersion01 + 1)).toEqual({ replica: true, other: true });
});

test("no column is added twice, nor dropped again, so that all may be added at once", () => {
  const folder = join(packageRoot(), "drizzle");
  const files = readdirSync(folder).filter((file) => file.endsWith(".sql"));
  const sources = files.map((file) => readFileSync(join(folder, file), "utf8"));
  const added = sources.flatMap((source) =>
    [...source.matchAll(/ALTER TABLE "(\w+)" ADD COLUMN "(\w+)"/g)].map(([, table, column]) => `${table}.${column}`),
  );
  expect(added.length).toBeGreaterThan(30);
  expect(added.length).toBe(new Set(added).size);
  for (const source of sources) expect(source).not.toMatch(/DROP COLUMN|RENAME/);
});
