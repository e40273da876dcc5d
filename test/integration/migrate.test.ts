import { randomUUID } from "node:crypto";
import { readdirSync } from "node:fs";
import { join } from "node:path";
import postgres, { type Sql } from "postgres";
import { afterEach, beforeEach, expect, inject, test } from "vitest";
import { packageRoot } from "../../src/platform/package-root.js";
import { migrate, whatIsMissing } from "../../src/storage/postgres/migrating/migrate.js";
import {
  createFunctions,
  dropOldFunctions,
  holdFunctions,
  ownFunctions,
  type ReleaseFunctions,
  releaseOf,
  searchPath,
} from "../../src/storage/postgres/migrating/release-functions.js";
import { miscounted } from "../support/counted-stats.js";
import { until } from "../support/until.js";
import { applyMigrations } from "./earlier-database.js";

let url: string;
let name: string;
let admin: Sql;
let sql: Sql;

function connect(path: string): Sql {
  return postgres(url, { max: 1, onnotice: () => {}, connection: { search_path: path } });
}

beforeEach(async () => {
  name = `empty_${randomUUID().replaceAll("-", "")}`;
  admin = postgres(inject("databaseUrl"), { max: 1, onnotice: () => {} });
  await admin.unsafe(`CREATE DATABASE ${name} TEMPLATE template0`);
  const changed = new URL(inject("databaseUrl"));
  changed.pathname = `/${name}`;
  url = changed.href;
  sql = connect(searchPath());
});
afterEach(async () => {
  await sql.end();
  await admin.unsafe(`DROP DATABASE ${name} WITH (FORCE)`);
  await admin.end();
});

test("four replicas that start at once on an empty database migrate it once; and again", async () => {
  for (let round = 0; round < 2; round++) {
    await Promise.all([migrate(url), migrate(url), migrate(url), migrate(url)]);
    const applied = await sql`SELECT hash FROM drizzle.__drizzle_migrations`;
    const files = readdirSync(join(packageRoot(), "drizzle")).filter((file) => file.endsWith(".sql"));
    expect(applied.length).toBe(files.length);
    const tables = await sql`SELECT tablename AS name FROM pg_tables WHERE schemaname = 'public'`;
    expect(tables.map((table) => table.name)).toEqual(
      expect.arrayContaining(["coupons", "user_coupons", "events", "requests"]),
    );
    const [row] =
      await sql`SELECT count(*)::int AS n FROM issue_user_coupons('{}', '{}', '{}', '{}', '{}', '{}', '{}', NULL, NULL, 'UTC', false)`;
    expect(row?.n).toBe(0);
  }
});

/** As the first two migrations left a database, with what somebody did there. */
async function beforeCodes(): Promise<void> {
  await applyMigrations(sql, 2);
  await sql`
    INSERT INTO coupons (id, name, description, category, fixed_amount, currency_code, starts_at, expires_at, max_per_user,
      stackable, created_at, updated_at, deleted_at, quantity, issued_count, used_count, place_count, max_uses)
    SELECT gen_random_uuid(), 'Coffee ' || n, '', '', 1, 'USD', '2026-01-01', '2099-01-01', 1, false, now(), now(),
      CASE WHEN n = 3 THEN now() END, 10, CASE WHEN n = 1 THEN 4 ELSE 0 END, CASE WHEN n = 1 THEN 1 ELSE 0 END,
      CASE WHEN n = 1 THEN 2 ELSE 0 END, 1
    FROM generate_series(1, 3) n`;
  // Of the first coupon: one used, one used and cancelled, one deleted, one that ends, one released.
  await sql`
    INSERT INTO user_coupons (id, coupon_id, user_id, slot, issued_at, max_uses, use_count, place_count, deleted_at,
      released_at, valid_until)
    SELECT gen_random_uuid(), c.id, 'user ' || n, CASE WHEN n NOT IN (3, 5) THEN 1 END, now(), 1, CASE WHEN n = 1 THEN 1 ELSE 0 END,
      CASE WHEN n IN (1, 2) THEN 1 ELSE 0 END, CASE WHEN n = 3 THEN now() END, CASE WHEN n = 5 THEN now() END,
      CASE WHEN n = 4 THEN now() END
    FROM coupons c CROSS JOIN generate_series(1, 5) n WHERE c.name = 'Coffee 1'`;
  await sql`
    INSERT INTO usages (id, user_coupon_id, coupon_id, user_id, product_id, order_id, currency_code, order_amount,
      discount_amount, item, used_at, cancelled_at)
    SELECT gen_random_uuid(), u.id, u.coupon_id, u.user_id, 'p', 'o', 'USD', 1, 1, 0, now(),
      CASE WHEN u.use_count = 0 THEN now() END
    FROM user_coupons u WHERE u.place_count = 1`;
}

test("what was there before there were counters and a search is counted and found after the upgrade", async () => {
  await beforeCodes();
  await migrate(url);
  const [found] = await sql`
    SELECT cardinality(coupon_ids) AS n FROM search_coupons('coff', NULL, NULL, NULL, true, 20, NULL, NULL, 1000, 2000)`;
  expect(found?.n).toBe(2);
  const [{ id } = { id: "" }] = await sql<{ id: string }[]>`SELECT id FROM coupons WHERE name = 'Coffee 1'`;
  const [stats] = await sql`SELECT * FROM coupon_stats(${id}, NULL, false)`;
  expect(stats).toMatchObject({
    issued_count: "5",
    deleted_count: "1",
    released_count: "1",
    used_count: "2",
    cancelled_count: "1",
    expired_count: "1",
  });
  expect(await miscounted(sql)).toEqual([]);
  const [old] = await sql`SELECT count(*)::int AS n FROM pg_proc WHERE proname = 'issue_user_coupons'`;
  expect(old?.n).toBe(1);
});

const largeIndexes = async () =>
  Object.fromEntries(
    (
      await sql`
        SELECT c.relname AS name, i.indisvalid AS valid FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
        WHERE c.relname IN ('user_coupons_of_user', 'usages_of_user_coupon', 'coupon_search_of_category',
          'coupon_search_of_type', 'coupon_search_of_kind')`
    ).map(({ name, valid }) => [name, valid]),
  );
const allValid = {
  user_coupons_of_user: true,
  usages_of_user_coupon: true,
  coupon_search_of_category: true,
  coupon_search_of_type: true,
  coupon_search_of_kind: true,
};

test("the indexes of large tables come with the upgrade, and again when their building was cut off", async () => {
  await beforeCodes();
  await migrate(url);
  expect(await largeIndexes()).toEqual(allValid);
  await sql`UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'user_coupons_of_user'::regclass`;
  await sql`DROP INDEX usages_of_user_coupon`;
  await migrate(url);
  expect(await largeIndexes()).toEqual(allValid);
});

test("an index is built while an older replica writes, and nobody waits for whoever builds it", async () => {
  await migrate(url);
  await sql`DROP INDEX usages_of_user_coupon`;
  const other = postgres(url, { max: 1, onnotice: () => {} });
  let building: Promise<unknown> | undefined;
  await other.begin(async (tx) => {
    await tx`UPDATE usages SET item = item`;
    await tx`INSERT INTO usages (id, user_coupon_id, coupon_id, user_id, product_id, order_id, currency_code, order_amount,
      discount_amount, item, used_at) SELECT gen_random_uuid(), gen_random_uuid(), gen_random_uuid(), 'u', 'p', 'o', 'USD', 1, 1, 0, now()`;
    building = migrate(url);
    await until("it waits for the write", async () => {
      const [row] = await sql`
        SELECT count(*)::int AS n FROM pg_stat_activity
        WHERE datname = current_database() AND wait_event_type = 'Lock' AND query LIKE 'CREATE INDEX CONCURRENTLY%'`;
      return row?.n === 1;
    });
    // Others start, and write, meanwhile.
    await migrate(url);
    await sql`UPDATE usages SET item = item`;
    expect(await largeIndexes()).toMatchObject({ usages_of_user_coupon: false });
  });
  await building;
  await other.end();
  expect(await largeIndexes()).toEqual(allValid);
});

const quiet = { info: () => {}, warn: () => {} };

/** The functions of this release, but with a clock that stands in `year`. */
function releaseWithYear(year: number): ReleaseFunctions {
  const clock = `CREATE OR REPLACE FUNCTION coupon_clock() RETURNS timestamptz LANGUAGE sql AS $$ SELECT '${year}-07-01'::timestamptz $$`;
  const files = ownFunctions().sources.map((source, index) => [String(index).padStart(3, "0"), source] as const);
  return releaseOf(
    new Map([...files.filter(([, source]) => !/FUNCTION coupon_clock\(/.test(source)), ["!clock", clock]]),
  );
}

async function yearFor(release: ReleaseFunctions): Promise<number> {
  const client = connect(searchPath(release));
  const [row] = await client`SELECT extract(year FROM coupon_clock())::int AS year`;
  await client.end();
  return row?.year;
}

const schemas = async () =>
  (await sql`SELECT nspname AS name FROM pg_namespace WHERE nspname LIKE 'coupon_fn_%'`).map(({ name }) => name).sort();

test("a release has one schema of functions, and another release another one", () => {
  const files = new Map([
    ["a.sql", "SELECT 1"],
    ["b.sql", "SELECT 2"],
  ]);
  const { schema, sources } = releaseOf(files);
  expect(schema).toMatch(/^coupon_fn_[0-9a-f]{12}$/);
  expect(sources).toEqual(["SELECT 1", "SELECT 2"]);
  expect(releaseOf(new Map([...files].reverse())).schema).toBe(schema);
  expect(releaseOf(new Map([...files, ["b.sql", "SELECT 3"]])).schema).not.toBe(schema);
  expect(releaseOf(new Map([...files, ["c.sql", ""]])).schema).not.toBe(schema);
});

test("two releases call their own functions side by side, whichever of them was started last", async () => {
  await migrate(url);
  const other = releaseWithYear(2001);
  await createFunctions(sql, other, quiet);
  const now = new Date().getUTCFullYear();
  expect([await yearFor(ownFunctions()), await yearFor(other)]).toEqual([now, 2001]);
  await migrate(url);
  expect([await yearFor(ownFunctions()), await yearFor(other)]).toEqual([now, 2001]);
  // Functions call one another in their own schema: what is issued has the time of the clock beside it.
  const client = connect(searchPath(other));
  const [{ id } = { id: "" }] = await sql<{ id: string }[]>`
    INSERT INTO coupons (id, name, description, category, fixed_amount, currency_code, starts_at, expires_at, max_per_user,
      stackable, created_at, updated_at, quantity, max_uses)
    VALUES (gen_random_uuid(), 'Coffee', '', '', 1, 'USD', '2000-01-01', '2099-01-01', 1, false, now(), now(), 10, 1)
    RETURNING id`;
  for (const [connection, user] of [
    [client, "then"],
    [sql, "now"],
  ] as const) {
    await connection`SELECT * FROM issue_user_coupons(ARRAY[gen_random_uuid()], ARRAY[${id}]::uuid[], ARRAY[${user}]::text[], '{NULL}', '{NULL}',
      '{NULL}', '{NULL}', NULL, NULL, 'UTC', false)`;
  }
  await client.end();
  const issued = await sql`SELECT user_id, extract(year FROM issued_at)::int AS year FROM user_coupons ORDER BY 1`;
  expect(issued.map(({ user_id, year }) => [user_id, year])).toEqual([
    ["now", now],
    ["then", 2001],
  ]);
});

test("what an earlier release has in public is left as it is", async () => {
  await migrate(url);
  const old = connect("public");
  for (const source of ownFunctions().sources) await old.unsafe(source);
  await old`CREATE TABLE sql_functions (file text PRIMARY KEY, hash text NOT NULL)`;
  await old`INSERT INTO sql_functions VALUES ('coupon_clock.sql', 'of an older file')`;
  const seen = () => old`
    SELECT (SELECT json_agg(p.xmin::text ORDER BY p.oid) FROM pg_proc p WHERE pronamespace = 'public'::regnamespace) AS functions,
      (SELECT json_agg(f.xmin::text) FROM sql_functions f) AS rows`;
  const before = await seen();
  await migrate(url);
  expect(await seen()).toEqual(before);
  await old`SELECT * FROM expire_codes(1, false)`;
  await old.end();
});

test("the functions of a release go when it has long gone, and never while a replica holds them", async () => {
  await migrate(url);
  const [first, second, third] = [releaseWithYear(2001), releaseWithYear(2002), releaseWithYear(2003)];
  for (const release of [first, second, third]) await createFunctions(sql, release, quiet);
  const age = (release: ReleaseFunctions, hours: number) => sql`
    UPDATE function_schemas SET last_seen_at = now() - make_interval(hours => ${hours}) WHERE name = ${release.schema}`;
  const named = (...releases: ReleaseFunctions[]) => releases.map(({ schema }) => schema).sort();

  await age(first, 23);
  await age(second, 23);
  await dropOldFunctions(sql, quiet);
  expect(await schemas(), "seen within a day").toEqual(named(ownFunctions(), first, second, third));

  await age(first, 50);
  await age(second, 40);
  await age(third, 30);
  const replica = connect(searchPath(first));
  await replica`SELECT pg_advisory_lock_shared(1, 1)`;
  await holdFunctions(replica, first);
  await age(first, 50);
  await dropOldFunctions(sql, quiet);
  expect(await schemas(), "the newest two, and the one that is held").toEqual(named(ownFunctions(), first, third));

  await replica.end();
  await until("its lock has gone", async () => {
    await dropOldFunctions(sql, quiet);
    return !(await schemas()).includes(first.schema);
  });
  expect(await schemas()).toEqual(named(ownFunctions(), third));
  expect((await sql`SELECT name FROM function_schemas`).map((row) => row.name).sort()).toEqual(await schemas());
});

test("a replica that holds its functions is seen", async () => {
  await migrate(url);
  await sql`UPDATE function_schemas SET last_seen_at = now() - interval '3 days'`;
  await holdFunctions(sql);
  const [row] = await sql`SELECT now() - last_seen_at < interval '1 minute' AS seen FROM function_schemas`;
  expect(row?.seen).toBe(true);
});

test("functions that something stored uses are not dropped, and stop nobody", async () => {
  await migrate(url);
  const old = releaseWithYear(2001);
  for (const release of [old, releaseWithYear(2002)]) await createFunctions(sql, release, quiet);
  await sql.unsafe(`CREATE VIEW clocks AS SELECT ${old.schema}.coupon_clock()`);
  await sql`UPDATE function_schemas SET last_seen_at = now() - interval '3 days' WHERE name = ${old.schema}`;
  const warnings: unknown[] = [];
  await migrate(url, { info: () => {}, warn: (facts: unknown) => void warnings.push(facts) });
  expect(warnings).toMatchObject([{ schema: old.schema }]);
  expect(await yearFor(old)).toBe(2001);
  expect(await schemas()).toContain(old.schema);
});

test("nothing that is stored uses a function of a release", async () => {
  await migrate(url);
  const users = await sql`
    SELECT d.classid::regclass::text AS kind, d.objid FROM pg_depend d
    JOIN pg_proc p ON d.refclassid = 'pg_proc'::regclass AND d.refobjid = p.oid
    WHERE p.pronamespace = ${ownFunctions().schema}::regnamespace`;
  expect(users.length).toBe(0);
  // What a function of the migrations calls is not known to Postgres.
  const names =
    await sql`SELECT proname AS name FROM pg_proc WHERE pronamespace = ${ownFunctions().schema}::regnamespace`;
  const bodies = await sql`
    SELECT p.prosrc AS body FROM pg_proc p JOIN pg_language l ON l.oid = p.prolang
    WHERE p.pronamespace = 'public'::regnamespace AND l.lanname IN ('sql', 'plpgsql')`;
  expect(names.length).toBe(ownFunctions().sources.length);
  expect(bodies.length).toBeGreaterThan(2);
  const calls = names.filter(({ name }) => bodies.some(({ body }) => new RegExp(`\\b${name}\\(`).test(body)));
  expect(calls).toEqual([]);
});

test("whoever migrates lets others pass while a table is locked, and tries again", async () => {
  await beforeCodes();
  const holder = connect("public");
  const tries: unknown[] = [];
  let migrating: Promise<unknown> | undefined;
  await holder.begin(async (tx) => {
    await tx`LOCK TABLE coupons IN ACCESS SHARE MODE`;
    migrating = migrate(url, { info: () => {}, warn: (facts: unknown) => void tries.push(facts) });
    await until("it waits for the table", async () => {
      const [row] = await sql`
        SELECT count(*)::int AS n FROM pg_locks WHERE relation = 'coupons'::regclass AND NOT granted`;
      return row?.n === 1;
    });
    // Comes behind it, and has less patience than callers of the service have.
    await sql.begin(async (other) => {
      await other`SET LOCAL lock_timeout = 2000`;
      await other`SELECT count(*) FROM coupons`;
    });
    await until("it has tried twice", async () => tries.length === 2, 15_000);
  });
  await migrating;
  await holder.end();
  expect(tries[0]).toMatchObject({ what: "new columns of coupons", tries: 1 });
  expect(await whatIsMissing(url)).toEqual([]);
});

test("what is missing is named", async () => {
  const functions = `functions ${ownFunctions().schema}`;
  const folder = join(packageRoot(), "drizzle");
  const migrations = readdirSync(folder)
    .filter((file) => file.endsWith(".sql"))
    .sort()
    .map((file) => `migration ${file.slice(0, -".sql".length)}`);
  expect(await whatIsMissing(url)).toEqual([...migrations, functions]);
  await beforeCodes();
  expect(await whatIsMissing(url)).toEqual([...migrations.slice(2), functions]);
  await migrate(url);
  expect(await whatIsMissing(url)).toEqual([]);
  await sql.unsafe(`DROP SCHEMA ${ownFunctions().schema} CASCADE`);
  expect(await whatIsMissing(url)).toEqual([functions]);
  await migrate(url);
  // As a later release leaves it.
  await sql`INSERT INTO drizzle.__drizzle_migrations (hash, created_at) VALUES ('later', ${Date.now()})`;
  expect(await whatIsMissing(url)).toEqual([]);
});

test("no lock is left behind", async () => {
  await migrate(url);
  const locks = await sql`SELECT FROM pg_locks WHERE locktype = 'advisory'
    AND database = (SELECT oid FROM pg_database WHERE datname = current_database())`;
  expect(locks.length).toBe(0);
});
