import { randomUUID } from "node:crypto";
import { readdirSync } from "node:fs";
import { join } from "node:path";
import postgres, { type Sql } from "postgres";
import { afterEach, beforeEach, expect, inject, test } from "vitest";
import { packageRoot } from "../../src/platform/package-root.js";
import { migrate } from "../../src/storage/postgres/migrate.js";

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

test("coupons from before there was a search are found after the upgrade", async () => {
  await migrate(url);
  await sql.unsafe(`
    DROP FUNCTION search_created_coupons, search_changed_coupon CASCADE;
    DROP FUNCTION keep_coupon_search;
    DROP TABLE coupon_search, search_words`);
  await sql`DELETE FROM drizzle.__drizzle_migrations WHERE id > 3`;
  await sql`
    INSERT INTO coupons (id, name, description, category, fixed_amount, currency_code, starts_at, expires_at, max_per_user,
      stackable, created_at, updated_at, deleted_at)
    SELECT gen_random_uuid(), 'Coffee ' || n, '', '', 1, 'USD', '2026-01-01', '2099-01-01', 1, false, now(), now(),
      CASE WHEN n = 3 THEN now() END
    FROM generate_series(1, 3) n`;
  await migrate(url);
  const [found] = await sql`
    SELECT cardinality(coupon_ids) AS n FROM search_coupons('coff', NULL, NULL, NULL, true, 20, NULL, NULL, 1000)`;
  expect(found?.n).toBe(2);
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
