import { randomUUID } from "node:crypto";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import postgres, { type Sql } from "postgres";
import { afterEach, beforeEach, expect, inject, onTestFinished, test } from "vitest";
import { EventReader } from "../../src/following/event-reader.js";
import { MonthKeeper } from "../../src/jobs/month-keeper.js";
import { packageRoot } from "../../src/platform/package-root.js";
import { openDatabase } from "../../src/storage/postgres/database.js";
import { PostgresEventStore } from "../../src/storage/postgres/events/event-store.js";
import { migrate } from "../../src/storage/postgres/migrating/migrate.js";
import { searchPath } from "../../src/storage/postgres/migrating/release-functions.js";

/** Events are kept by months, also those of an earlier release, which goes on to write beside this one. */

let url: string;
let name: string;
let admin: Sql;
let sql: Sql;
const day = (text: string) => new Date(`${text}T00:00:00.000Z`);

function connect(): Sql {
  return postgres(url, { max: 1, onnotice: () => {}, connection: { search_path: searchPath() } });
}

beforeEach(async () => {
  name = `events_${randomUUID().replaceAll("-", "")}`;
  admin = postgres(inject("databaseUrl"), { max: 1, onnotice: () => {} });
  await admin.unsafe(`CREATE DATABASE ${name} TEMPLATE template0`);
  const changed = new URL(inject("databaseUrl"));
  changed.pathname = `/${name}`;
  url = changed.href;
  sql = connect();
});
afterEach(async () => {
  await sql.end();
  await admin.unsafe(`DROP DATABASE ${name} WITH (FORCE)`);
  await admin.end();
});

/** As an earlier release left a database: its tables, and no migration on record, for `migrate` makes none of them again. */
async function ofEarlierRelease(): Promise<void> {
  const folder = join(packageRoot(), "drizzle");
  const { entries } = JSON.parse(readFileSync(join(folder, "meta/_journal.json"), "utf8"));
  await sql.unsafe(`
    CREATE SCHEMA drizzle;
    CREATE TABLE drizzle.__drizzle_migrations (id serial PRIMARY KEY, hash text NOT NULL, created_at bigint)`);
  for (const { tag, when } of entries.slice(0, 3)) {
    for (const statement of readFileSync(join(folder, `${tag}.sql`), "utf8").split("--> statement-breakpoint"))
      await sql.unsafe(statement);
    await sql`INSERT INTO drizzle.__drizzle_migrations (hash, created_at) VALUES (${tag}, ${when})`;
  }
}

const add = (client: Sql, at: Date) => client`
  INSERT INTO events (kind, happened_at, coupon_id) VALUES ('USER_COUPON_ISSUED', ${at}, gen_random_uuid()) RETURNING seq::int, xid::text`;

const partitions = async () =>
  (
    await sql`SELECT relname AS name FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
      WHERE inhparent = 'events'::regclass ORDER BY relname`
  ).map((row) => row.name as string);

test("the events of an earlier release become a partition while it goes on to write; their numbers go on, and grants hold", async () => {
  await ofEarlierRelease();
  const reader = `reader_${name}`;
  await admin.unsafe(`CREATE ROLE ${reader}`);
  await sql.unsafe(`GRANT SELECT ON events TO ${reader}`);
  const old = connect();
  for (let n = 0; n < 50; n++) await add(old, day("2020-02-03"));
  let writing = true;
  const seqs: number[] = [];
  const writer = (async () => {
    while (writing) for (const { seq } of await add(old, new Date())) seqs.push(seq);
  })();
  const [before] = await sql`SELECT oid::text AS first FROM pg_class WHERE oid = 'events'::regclass`;
  await Promise.all([migrate(url), migrate(url)]);
  await add(sql, new Date());
  writing = false;
  await writer;
  await old.end();

  // In the order in which they were written, each number once, and nothing was copied.
  expect(seqs).toEqual([...new Set(seqs)].sort((a, b) => a - b));
  const all = await sql`SELECT seq::int, xid IS NOT NULL AS known FROM events ORDER BY seq`;
  expect(all.length).toBe(50 + seqs.length + 1);
  expect(all.every(({ known }) => known)).toBe(true);
  expect(all.at(-1)?.seq).toBeLessThan(all.length + 5);
  const [after] = await sql`
    SELECT i.inhrelid::text AS first, has_table_privilege(${reader}, 'events', 'SELECT') AS readable
    FROM pg_inherits i WHERE i.inhparent = 'events'::regclass ORDER BY i.inhrelid::bigint LIMIT 1`;
  expect(after).toEqual({ first: before?.first, readable: true });
  const names = await partitions();
  expect([
    names.length,
    names.filter((one) => /^events_until_/.test(one)).length,
    names.includes("events_rest"),
  ]).toEqual([names.length, 1, true]);
  expect(names.length).toBeGreaterThan(5);
  await sql.unsafe(`DROP OWNED BY ${reader}`);
  await admin.unsafe(`DROP ROLE ${reader}`);
});

test("a start that was cut off between is gone on with", async () => {
  await ofEarlierRelease();
  await sql`ALTER TABLE events ADD CONSTRAINT events_before_2020_01 CHECK (happened_at < '2020-01-01') NOT VALID`;
  await migrate(url);
  await add(sql, new Date());
  const left = await sql`SELECT conname FROM pg_constraint WHERE conname LIKE 'events_before%'`;
  expect(left.length).toBe(0);
});

test("months are made ahead and dropped when they are older than events are kept, and not before", async () => {
  await migrate(url);
  // In any order in which Postgres may look at them, also at the partitions of other tables first.
  const keep = (at: string, days: number) =>
    sql.begin(async (tx) => {
      for (const way of ["nestloop", "indexscan", "bitmapscan"]) await tx.unsafe(`SET LOCAL enable_${way} = off`);
      return (await tx`SELECT made, dropped FROM keep_months('events', ${day(at)}, ${days})`)[0];
    });
  const first = (await partitions()).find((one) => one.startsWith("events_until_"))!;
  await add(sql, new Date());
  await add(sql, day("2040-03-31"));
  await add(sql, day("2040-04-01"));
  expect((await sql`SELECT FROM events_rest`).length).toBe(2);
  const made = await keep("2040-03-15", 0);
  expect([Number(made?.made) > 150, made?.dropped]).toEqual([true, []]);
  // What had no partition yet has moved to its own.
  expect((await sql`SELECT FROM events_rest`).length).toBe(0);
  expect((await sql`SELECT FROM events_2040_03`).length).toBe(1);
  expect(await keep("2040-03-15", 0)).toEqual({ made: 0, dropped: [] });

  const dropped = (await keep("2040-05-30", 60))?.dropped as string[];
  expect([dropped[0], dropped.at(-1)]).toEqual([first, "events_2040_02"]);
  expect((await sql`SELECT happened_at FROM events ORDER BY seq`).map((row) => row.happened_at)).toEqual([
    day("2040-03-31"),
    day("2040-04-01"),
  ]);
  // The last day of March is sixty days ago on the 31st.
  expect((await keep("2040-05-31", 60))?.dropped).toEqual(["events_2040_03"]);
  await add(sql, day("2040-05-31"));
  // However long nothing has happened since, the newest event stays: cursors and the relay's place name it.
  expect((await keep("2041-05-31", 60))?.dropped).toEqual(["events_2040_04"]);
  const [plan] =
    await sql`EXPLAIN (FORMAT JSON) SELECT FROM events WHERE happened_at >= '2040-05-01' AND happened_at < '2040-06-01'`;
  expect(JSON.stringify(plan)).not.toContain("events_2040_04");
});

test("whoever has seen all events goes on behind the newest one, however long nothing has happened", async () => {
  await migrate(url);
  const database = openDatabase({ url, poolSize: 4 });
  onTestFinished(() => database.close());
  const reader = new EventReader(new PostgresEventStore(database));
  for (const at of ["2030-01-31", "2030-02-01"]) await add(sql, day(at));
  const before = await reader.caughtUp(10_000);
  for (const at of ["2030-01-01", "2040-01-01"]) await sql`SELECT keep_months('events', ${day(at)}, 30)`;
  expect(await reader.check(before!, Number.POSITIVE_INFINITY)).toBeUndefined();
  await reader.caughtUp(10_000);
  expect(reader.history).toBe(0);
  expect((await sql`SELECT FROM events`).length).toBe(1);
});

test("whoever may write and delete events keeps them, without owning them; nobody else does", async () => {
  await migrate(url);
  const [server, stranger] = [`server_${name}`, `stranger_${name}`];
  for (const role of [server, stranger]) await admin.unsafe(`CREATE ROLE ${role} LOGIN`);
  await sql.unsafe(
    `GRANT SELECT, INSERT, DELETE ON events TO ${server}; GRANT SELECT, INSERT ON events TO ${stranger}`,
  );
  const ask = (role: string) =>
    sql.begin(async (tx) => {
      await tx.unsafe(`SET LOCAL SESSION AUTHORIZATION ${role}`);
      return await tx`SELECT made FROM keep_months('events', '2041-01-01', 30)`;
    });
  await expect(ask(stranger)).rejects.toThrow("to delete them to drop old months");
  expect(Number((await ask(server))[0]?.made)).toBeGreaterThan(100);
  // It runs as the owner of all tables, and drops nothing of others.
  await expect(sql`SELECT made FROM keep_months('coupons', '2041-01-01', 30)`).rejects.toThrow("not kept by months");
  await sql.unsafe(`DROP OWNED BY ${server}, ${stranger}`);
  for (const role of [server, stranger]) await admin.unsafe(`DROP ROLE ${role}`);
});

test("the job keeps months for as many days as it is told, and says what it did", async () => {
  await migrate(url);
  const database = openDatabase({ url, poolSize: 4 });
  const told: object[] = [];
  const keeper = (keepDays: number) =>
    new MonthKeeper("keep events", new PostgresEventStore(database), keepDays, {
      info: (details) => void told.push(details),
    });
  await keeper(1).run();
  expect(told).toEqual([]);
  await sql.unsafe(
    `CREATE OR REPLACE FUNCTION coupon_clock() RETURNS timestamptz LANGUAGE sql AS $$ SELECT '2040-05-30'::timestamptz $$`,
  );
  await keeper(0).run();
  expect(told).toEqual([{ made: expect.any(Number), dropped: [] }]);
  await keeper(60).run();
  expect(told[1]).toMatchObject({ made: 0, dropped: expect.arrayContaining(["events_2040_02"]) });
  expect(await partitions()).toContain("events_2040_03");
  await database.close();
});
