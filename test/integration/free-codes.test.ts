import { randomUUID } from "node:crypto";
import { afterAll, beforeAll, expect, test } from "vitest";
import { PostgresIssueStore } from "../../src/storage/postgres/issuing/issue-store.js";
import { PostgresTargetStore } from "../../src/storage/postgres/issuing/target-store.js";
import { PostgresUserCouponStore } from "../../src/storage/postgres/user-coupons/user-coupon-store.js";
import { miscounted } from "../support/counted-stats.js";
import { type ClockedDatabase, openClockedDatabase } from "./clocked-database.js";
import { insertBook } from "./code-world.js";
import { insertCodes } from "./codes-world.js";

/** A free code is found without a look at all that were taken before, and none that is free is passed over. */

const noon = new Date("2030-06-01T12:00:00.000Z");
const farMs = Date.now() + 3_600_000;
const [codeCount, batchSize] = [6_000, 500];
/** For one code. The codes that were taken would be thousands. */
const fewBlocks = 150;

let clocked: ClockedDatabase;
let issues: PostgresIssueStore;
let userCoupons: PostgresUserCouponStore;

beforeAll(async () => {
  clocked = await openClockedDatabase(noon);
  issues = new PostgresIssueStore(clocked.database);
  userCoupons = new PostgresUserCouponStore(clocked.database);
  await clocked.sql`ALTER TABLE codes SET (autovacuum_enabled = false)`;
});
afterAll(() => clocked?.close());

const issue = (couponId: string, count = 1) =>
  issues.issueBatch(
    Array.from({ length: count }, () => ({
      couponId,
      userId: randomUUID(),
      userCouponId: randomUUID(),
      requestId: "",
    })),
  );

/** The codes of those that were issued; what was refused is named by its reason. */
async function codesOf(couponId: string, count = 1): Promise<(string | null)[]> {
  return (await issue(couponId, count)).map((one) =>
    one.outcome === "ISSUED" ? one.userCoupon.code : one.outcome === "REFUSED" ? one.reason : one.outcome,
  );
}

async function blocksOfOne(couponId: string): Promise<number> {
  const [row] = await clocked.sql`
    EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) SELECT * FROM issue_user_coupons(ARRAY[gen_random_uuid()], ARRAY[${couponId}::uuid],
      ARRAY[gen_random_uuid()::text], ARRAY[NULL::text], ARRAY[NULL::bigint], ARRAY[false], ARRAY[NULL::int], NULL, NULL, 'UTC', false)`;
  const { Plan } = row!["QUERY PLAN"][0];
  return Plan["Shared Hit Blocks"] + Plan["Shared Read Blocks"];
}

test("the last codes of a book are found as the first ones are, while nothing can be vacuumed", async () => {
  const { sql } = clocked;
  const book = await insertBook(sql, noon);
  await sql`
    INSERT INTO codes (coupon_id, code, code_key, pick_key, created_at)
    SELECT ${book}, n::text, n::text, n, ${noon} FROM generate_series(1, ${codeCount}::int) n`;
  await sql`UPDATE coupons SET quantity = ${codeCount}, code_total = ${codeCount} WHERE id = ${book}`;
  // Whoever reads for long keeps what was taken meanwhile from going.
  await sql.begin("ISOLATION LEVEL REPEATABLE READ", async (reader) => {
    await reader`SELECT FROM codes LIMIT 1`;
    for (let n = 1; n < codeCount / batchSize; n++)
      expect((await issue(book, batchSize)).filter(({ outcome }) => outcome === "ISSUED").length).toBe(batchSize);
    await issue(book);
    await blocksOfOne(book);
    expect(await blocksOfOne(book)).toBeLessThan(fewBlocks);
    // By type it is asked for what expires first.
    const pool = new PostgresTargetStore(clocked.database);
    await sql`UPDATE coupons SET type = 'FREE', is_pool = true WHERE id = ${book}`;
    await sql`UPDATE codes SET expires_at = '2099-01-01' WHERE coupon_id = ${book} AND holder_count = 0`;
    expect(await pool.listIssuable("FREE", 5)).toEqual([book]);
  });
  expect(await miscounted(sql)).toEqual([]);
});

test("codes that were given back, or added, come before those that follow", async () => {
  const { sql } = clocked;
  const book = await insertBook(sql, noon);
  const add = (...codes: string[]) =>
    insertCodes(
      sql,
      book,
      codes.map((code) => ({ code })),
    );
  await add("A-1", "B-2", "C-3", "D-4");
  const [first] = await issue(book);
  expect(await codesOf(book)).toEqual(["B-2"]);
  const { userCoupon } = first as Extract<typeof first, { outcome: "ISSUED" }>;
  const { userId, id: userCouponId } = userCoupon!;
  await userCoupons.delete(
    { userId, userCouponId, restock: true, deleteUsed: false, request: null },
    async () => {},
    farMs,
  );
  expect(await codesOf(book)).toEqual(["A-1"]);
  // Their order begins anew with each upload of this test.
  await add("E-5", "F-6");
  expect(await codesOf(book, 5)).toEqual(["E-5", "F-6", "C-3", "D-4", "SOLD_OUT"]);
  // As a release does it that knows nothing of where free codes begin.
  await sql`UPDATE codes SET holder_count = 0 WHERE coupon_id = ${book} AND code = 'B-2'`;
  await sql`UPDATE coupons SET issued_count = issued_count - 1 WHERE id = ${book}`;
  expect(await codesOf(book, 2)).toEqual(["B-2", "SOLD_OUT"]);
});

test("a code of several users is not passed over while one of them is missing", async () => {
  const { sql } = clocked;
  const book = await insertBook(sql, noon);
  await insertCodes(sql, book, [{ code: "M-1", maxHolders: 3 }, { code: "N-2" }]);
  expect(await codesOf(book)).toEqual(["M-1"]);
  expect(await codesOf(book)).toEqual(["M-1"]);
  expect(await codesOf(book, 3)).toEqual(["M-1", "N-2", "SOLD_OUT"]);
});
