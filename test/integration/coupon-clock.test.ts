import postgres, { type Sql } from "postgres";
import { afterAll, beforeAll, expect, test } from "vitest";
import { createStores, type TestStores } from "../support/stores.js";

/** Tests that move time replace coupon_clock(). This is the one that is shipped. */
let stores: TestStores;
let sql: Sql;
beforeAll(async () => {
  stores = await createStores();
  sql = postgres(stores.databaseUrl, { max: 1, onnotice: () => {} });
});
afterAll(async () => {
  await sql?.end();
  await stores?.drop();
});

test("the clock goes on within a transaction, and within a statement", async () => {
  const [seen] = await sql.begin(async (tx) => {
    await tx`SELECT pg_sleep(0.01)`;
    return await tx`
      WITH before AS MATERIALIZED (SELECT coupon_clock() AS at),
        pause AS MATERIALIZED (SELECT pg_sleep(0.01) FROM before)
      SELECT before.at > now() + interval '9 ms' AS in_transaction, coupon_clock() > before.at + interval '8 ms' AS in_statement
      FROM before, pause`;
  });
  expect(seen).toEqual({ in_transaction: true, in_statement: true });
});

test("it is the machine's time, cut to the millisecond", async () => {
  const rows = await sql`
    SELECT one.at = date_trunc('milliseconds', one.at) AS whole, one.real - one.at < interval '1 s' AS near,
      one.at <= one.real AS past
    FROM (SELECT coupon_clock() AS at, clock_timestamp() AS real FROM generate_series(1, 100) OFFSET 0) one`;
  expect([...rows]).toEqual(rows.map(() => ({ whole: true, near: true, past: true })));
});
