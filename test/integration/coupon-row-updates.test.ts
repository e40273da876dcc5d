import { randomUUID } from "node:crypto";
import postgres, { type Sql } from "postgres";
import { afterAll, beforeAll, expect, test } from "vitest";
import { type EmbeddedServers, startEmbedded } from "../../embedded/embedded.js";
import { migrate } from "../../src/storage/postgres/migrating/migrate.js";
import { searchPath } from "../../src/storage/postgres/migrating/release-functions.js";

/** What batches write of a coupon is its counters: no index is touched, and its texts are not written again. */

const [couponCount, batches] = [60, 40];
/** A version of the row that moved to another page is logged with its texts, 1,500 bytes of them. */
const mostLoggedPerUpdate = 800;

/** A server of its own: what others write is in its log, too, and their open transactions keep old versions of rows. */
let servers: EmbeddedServers;
let sql: Sql;

beforeAll(async () => {
  servers = await startEmbedded({ servers: ["postgres"] });
  const url = servers.databaseUrl as string;
  await migrate(url);
  // One connection, whose statistics can be had at once.
  sql = postgres(url, { max: 1, onnotice: () => {}, connection: { search_path: searchPath() } });
});
afterAll(async () => {
  await sql?.end();
  await servers?.stop();
});

async function written(): Promise<{ updated: number; beside: number; lsn: string }> {
  await sql`SELECT pg_stat_force_next_flush()`;
  const [row] = await sql`
    SELECT pg_stat_get_tuples_updated('coupons'::regclass)::int AS updated,
      pg_stat_get_tuples_hot_updated('coupons'::regclass)::int AS beside, pg_current_wal_insert_lsn()::text AS lsn`;
  return row as { updated: number; beside: number; lsn: string };
}

test("a batch of issues changes a coupon's row in place, also where its texts are long", async () => {
  await sql`
    INSERT INTO coupons (id, name, description, category, fixed_amount, currency_code, starts_at, expires_at, max_per_user,
      stackable, created_at, updated_at)
    SELECT gen_random_uuid(), 'n', (SELECT string_agg(md5(n || '.' || i), ' ') FROM generate_series(1, 45) i), '', 1, 'USD', '2020-01-01', '2099-01-01', 1,
      false, now(), now()
    FROM generate_series(1, ${couponCount}::int) n`;
  // Side by side, as those are that were made together: there is room for one new version of each.
  const ids = (await sql`SELECT id FROM coupons ORDER BY id`).map(({ id }) => id as string);
  const before = await written();
  for (let batch = 0; batch < batches; batch++) {
    const asked = ids.filter((_, index) => index % 3 === batch % 3);
    const each = <T>(make: () => T) => asked.map(make);
    const outcomes = await sql`
      SELECT outcome FROM issue_user_coupons(${each(() => randomUUID())}::uuid[], ${asked}::uuid[], ${each(() => randomUUID())}::text[],
        ${each(() => null)}::text[], ${each(() => null)}::text[]::bigint[], ${each(() => "false")}::text[]::boolean[],
        ${each(() => null)}::text[]::int[], NULL, NULL, 'UTC', false)`;
    expect(outcomes.every(({ outcome }) => outcome === "ISSUED")).toBe(true);
  }
  const after = await written();
  expect(after.updated - before.updated).toBe((batches * couponCount) / 3);
  expect((after.beside - before.beside) / (after.updated - before.updated)).toBeGreaterThan(0.95);

  // The counters alone, without what is issued. Past the first change of a page, which is logged whole.
  const count = () => sql`UPDATE coupons SET issued_count = issued_count + 1, issued_total = issued_total + 1`;
  await count();
  const { lsn } = await written();
  for (let batch = 0; batch < 10; batch++) await count();
  const [logged] = await sql`SELECT (pg_current_wal_insert_lsn() - ${lsn}::pg_lsn)::int AS bytes`;
  expect(logged?.bytes / (10 * couponCount)).toBeLessThan(mostLoggedPerUpdate);
});
