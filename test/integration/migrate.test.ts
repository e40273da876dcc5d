import { createHash, randomUUID } from "node:crypto";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import postgres, { type Sql } from "postgres";
import { afterEach, beforeEach, expect, inject, test } from "vitest";
import { packageRoot } from "../../src/platform/package-root.js";
import { migrate } from "../../src/storage/postgres/migrate.js";
import { miscounted } from "../support/counted-stats.js";
import { until } from "../support/until.js";

let url: string;
let name: string;
let admin: Sql;
let sql: Sql;

beforeEach(async () => {
  name = `empty_${randomUUID().replaceAll("-", "")}`;
  admin = postgres(inject("databaseUrl"), { max: 1, onnotice: () => {} });
  await admin.unsafe(`CREATE DATABASE ${name} TEMPLATE template0`);
  const changed = new URL(inject("databaseUrl"));
  changed.pathname = `/${name}`;
  url = changed.href;
  sql = postgres(url, { max: 1, onnotice: () => {} });
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
      await sql`SELECT count(*)::int AS n FROM issue_user_coupons('{}', '{}', '{}', '{}', '{}', '{}', '{}', 'UTC', false)`;
    expect(row?.n).toBe(0);
  }
});

/** As the first two migrations left a database, with what somebody did there. */
async function beforeCodes(): Promise<void> {
  const folder = join(packageRoot(), "drizzle");
  const journal = JSON.parse(readFileSync(join(folder, "meta/_journal.json"), "utf8")) as {
    entries: { tag: string; when: number }[];
  };
  await sql.unsafe(`
    CREATE SCHEMA drizzle;
    CREATE TABLE drizzle.__drizzle_migrations (id serial PRIMARY KEY, hash text NOT NULL, created_at bigint)`);
  for (const { tag, when } of journal.entries.slice(0, 2)) {
    const source = readFileSync(join(folder, `${tag}.sql`), "utf8");
    for (const statement of source.split("--> statement-breakpoint")) await sql.unsafe(statement);
    const hash = createHash("sha256").update(source).digest("hex");
    await sql`INSERT INTO drizzle.__drizzle_migrations (hash, created_at) VALUES (${hash}, ${when})`;
  }
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
    SELECT cardinality(coupon_ids) AS n FROM search_coupons('coff', NULL, NULL, NULL, true, 20, NULL, NULL, 1000)`;
  expect(found?.n).toBe(2);
  const [{ id } = { id: "" }] = await sql<{ id: string }[]>`SELECT id FROM coupons WHERE name = 'Coffee 1'`;
  const [stats] = await sql`SELECT * FROM coupon_stats(${id}, NULL)`;
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
        WHERE c.relname IN ('user_coupons_of_user', 'usages_of_user_coupon')`
    ).map(({ name, valid }) => [name, valid]),
  );
const allValid = { user_coupons_of_user: true, usages_of_user_coupon: true };

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
  let building: Promise<void> | undefined;
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

test("a function is replaced when its file has changed, and left alone when not", async () => {
  await migrate(url);
  const stub = `CREATE OR REPLACE FUNCTION coupon_clock() RETURNS timestamptz LANGUAGE sql AS 'SELECT ''2001-01-01''::timestamptz'`;
  const year = async () => (await sql`SELECT extract(year FROM coupon_clock())::int AS year`)[0]?.year;
  await sql.unsafe(stub);
  await migrate(url);
  expect(await year()).toBe(2001);
  await sql`UPDATE sql_functions SET hash = 'of an older file' WHERE file = 'coupon_clock.sql'`;
  await migrate(url);
  expect(await year()).toBe(new Date().getUTCFullYear());
});

test("no lock is left behind", async () => {
  await migrate(url);
  const locks = await sql`SELECT FROM pg_locks WHERE locktype = 'advisory'
    AND database = (SELECT oid FROM pg_database WHERE datname = current_database())`;
  expect(locks.length).toBe(0);
});
