import { randomUUID } from "node:crypto";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { CodeStatus } from "../../src/domain/code.js";
import { presentStatuses, type UserCouponStatus } from "../../src/domain/user-coupon.js";
import type { Rows } from "../../src/storage/ports/page.js";
import type { CouponQuery, FoundCoupons, SearchCursor } from "../../src/storage/ports/search.js";
import { maxCodesLooked, maxLooked as maxHoldersLooked } from "../../src/storage/postgres/codes/code-page.js";
import { PostgresCodeStore } from "../../src/storage/postgres/codes/code-store.js";
import { PostgresCouponStore } from "../../src/storage/postgres/coupons/coupon-store.js";
import { PostgresTargetStore } from "../../src/storage/postgres/issuing/target-store.js";
import { maxLooked as mostSearched, PostgresSearchStore } from "../../src/storage/postgres/search/search-store.js";
import { maxLooked } from "../../src/storage/postgres/user-coupons/user-coupon-page.js";
import { PostgresUserCouponStore } from "../../src/storage/postgres/user-coupons/user-coupon-store.js";
import { maxLooked as mostUsages } from "../../src/storage/postgres/using/usage-page.js";
import { PostgresUsageStore } from "../../src/storage/postgres/using/usage-store.js";
import { type ClockedDatabase, insertCoupon, openClockedDatabase, openCoupon } from "./clocked-database.js";
import { explained } from "./explained.js";

/** A page reads what it has, whatever else there is. What is read is counted in blocks of the database. */

const noon = new Date("2026-11-25T12:00:00Z");
const farMs = Number.POSITIVE_INFINITY;
const many = 20_000;
/** For a page of 50: a block for each row, its coupon and what leads there. Of a table of `many` it would be thousands. */
const fewBlocks = 400;
/** For a page that was looked for as long as may be: two or three for each row that was looked at. */
const blocksLooked = 4 * maxLooked;

let clocked: ClockedDatabase;
let userCoupons: PostgresUserCouponStore;
let usages: PostgresUsageStore;
let coupons: PostgresCouponStore;
let codes: PostgresCodeStore;
let search: PostgresSearchStore;
let blocksOf: ReturnType<typeof explained>["blocksOf"];
let couponId: string;

beforeAll(async () => {
  // One connection for what is counted: plans are cached there from when the tables were empty.
  clocked = await openClockedDatabase(noon, 4);
  const counted = explained(clocked.database);
  ({ blocksOf } = counted);
  userCoupons = new PostgresUserCouponStore(counted.database);
  usages = new PostgresUsageStore(counted.database);
  coupons = new PostgresCouponStore(counted.database);
  codes = new PostgresCodeStore(counted.database);
  search = new PostgresSearchStore(counted.database);
  const { sql } = clocked;
  for (const table of ["user_coupons", "usages", "coupons", "codes"])
    await sql`ALTER TABLE ${sql(table)} SET (autovacuum_enabled = false)`;
  couponId = await insertCoupon(sql, openCoupon(noon));
});
afterAll(() => clocked?.close());

const list = (
  userId: string,
  size: number,
  showExpired = false,
  before: string | null = null,
  statuses: readonly UserCouponStatus[] = presentStatuses,
) => userCoupons.list(userId, { size, before }, showExpired ? null : statuses, farMs);

const ofBook = (id: string, statuses: readonly CodeStatus[] | null = null) => ({
  couponId: id,
  statuses,
  endsAt: new Date(noon.getTime() + 3_600_000),
  now: noon,
});

/** With ids that rise by their number, as those of the service do with time; `prefix` orders the users' groups. */
const give = (userId: string, count: number, facts: { released?: boolean; deleted?: boolean } = {}, prefix = "1") =>
  clocked.sql`
    INSERT INTO user_coupons (id, coupon_id, user_id, issued_at, released_at, deleted_at)
    SELECT (lpad(${prefix} || lpad(to_hex(n), 7, '0'), 8, '0') || right(gen_random_uuid()::text, 28))::uuid, ${couponId},
      replace(${userId}, '#', n::text), ${noon}, ${facts.released ? noon : null}, ${facts.deleted ? noon : null}
    FROM generate_series(1, ${count}) n`;

const idsOf = async (userId: string, condition: string) =>
  (
    await clocked.sql<{ id: string }[]>`
      SELECT id FROM user_coupons WHERE user_id = ${userId} AND ${clocked.sql.unsafe(condition)} ORDER BY id DESC`
  ).map(({ id }) => id);

/** All rows of a list, however its pages are cut. */
async function walkOf<T>(pageAfter: (before: string | null) => Promise<Rows<T>>): Promise<T[]> {
  const rows: T[] = [];
  for (let before: string | null = null; ; ) {
    const page: Rows<T> = await pageAfter(before);
    rows.push(...page.rows);
    if (page.next === null) return rows;
    before = page.next;
  }
}

describe("a user's list", () => {
  test("reads a page, from an empty table to a large one, with and without statistics", async () => {
    const { sql } = clocked;
    for (let round = 0; round < 8; round++) await list("large", 50);
    await give("other #", 100);
    await give("large", 100);
    expect(await blocksOf(() => list("large", 50))).toBeLessThan(fewBlocks);
    await give("other #", 10_000, {}, "2");
    expect(await blocksOf(() => list("large", 50))).toBeLessThan(fewBlocks);
    await give("large", many, {}, "3");
    for (const prepare of [async () => {}, () => sql`ANALYZE`, () => sql`VACUUM user_coupons`]) {
      await prepare();
      expect(await blocksOf(() => list("large", 1))).toBeLessThan(fewBlocks);
      expect(await blocksOf(() => list("large", 50))).toBeLessThan(fewBlocks);
      expect(await blocksOf(() => list("large", 50, true))).toBeLessThan(fewBlocks);
      expect(await blocksOf(() => list("nobody", 50))).toBeLessThan(fewBlocks);
      expect(await blocksOf(() => list("other 5", 50))).toBeLessThan(fewBlocks);
    }
    const { rows, next } = await list("large", 50);
    expect(rows.map(({ userCoupon }) => userCoupon.id)).toEqual(
      rows
        .map(({ userCoupon }) => userCoupon.id)
        .sort()
        .reverse(),
    );
    expect([rows.length, next]).toEqual([50, rows.at(-1)?.userCoupon.id]);
    expect(await blocksOf(() => list("large", 50, false, next))).toBeLessThan(fewBlocks);
  });

  test("does not look at deleted ones", async () => {
    await give("deleter", 3);
    await give("deleter", many, { deleted: true }, "2");
    expect((await list("deleter", 50)).rows.length).toBe(3);
    expect(await blocksOf(() => list("deleter", 50))).toBeLessThan(fewBlocks);
  });

  test("stops looking after a while, says so with a token, and goes on there", async () => {
    await give("late", 3);
    await give("late", 5 * maxLooked, { released: true }, "2");
    await give("late", 2, {}, "3");
    const first = await list("late", 50);
    expect([first.rows.length, first.next === null]).toEqual([2, false]);
    expect(await blocksOf(() => list("late", 50))).toBeLessThan(blocksLooked);
    const found: string[] = [];
    let pages = 0;
    for (let before: string | null = null; ; pages++) {
      const page = await list("late", 50, false, before);
      found.push(...page.rows.map(({ userCoupon }) => userCoupon.id));
      if (page.next === null) break;
      before = page.next;
    }
    expect([found.length, new Set(found).size]).toEqual([5, 5]);
    expect(found).toEqual([...found].sort().reverse());
    expect(pages).toBeLessThan(7);
    expect((await list("late", 50, true)).rows.length).toBe(50);
  });

  test("is full as long as what is in the way is not too much, to the last one that may be looked at", async () => {
    for (const inTheWay of [maxLooked - 2, maxLooked - 1, maxLooked]) {
      const userId = `between ${inTheWay}`;
      await give(userId, 2);
      await give(userId, inTheWay, { released: true }, "2");
      const { rows, next } = await list(userId, 2);
      // What was looked at to the very end may still have a next page, which then is empty.
      const rest = next === null ? [] : (await list(userId, 2, false, next)).rows;
      expect(rows.length).toBe(Math.max(0, Math.min(2, maxLooked - inTheWay)));
      expect(rows.length + rest.length).toBe(2);
    }
  });

  test("of some statuses looks no further either, and finds all of them page by page", async () => {
    const { sql } = clocked;
    await give("some", 3);
    await give("some", 3 * maxLooked, {}, "2");
    await give("some", 2, {}, "3");
    await sql`
      UPDATE user_coupons SET use_count = 1, place_count = 1
      WHERE user_id = 'some' AND (id::text LIKE '1%' OR id::text LIKE '3%')`;
    const first = await list("some", 50, false, null, ["USED"]);
    expect([first.rows.length, first.next === null]).toEqual([2, false]);
    const read = () => list("some", 50, false, null, ["USED"]);
    expect(await blocksOf(read)).toBeLessThan(blocksLooked);
    const found = await walkOf((before) => list("some", 2, false, before, ["USED"]));
    expect(found.map(({ userCoupon }) => userCoupon.id)).toEqual(await idsOf("some", "use_count = 1"));
    expect(await walkOf((before) => list("some", 1_000, false, before, ["EXPIRED", "LOCKED"]))).toEqual([]);
    expect((await walkOf((before) => list("some", 999, false, before, ["USED", "READY"]))).length).toBe(
      3 * maxLooked + 5,
    );
  });

  test("that cannot be asked for fails alone", async () => {
    const good = ["large", "late", "nobody"].map((userId) => list(userId, 1));
    const bad = list("a\0b", 1);
    await expect(bad).rejects.toThrow();
    expect((await Promise.all(good)).map(({ rows }) => rows.length)).toEqual([1, 1, 0]);
  });
});

describe("usages", () => {
  const use = (
    count: number,
    facts: { userId: string; productId: string; orderId: string; cancelled?: boolean; userCouponId?: string },
  ) =>
    clocked.sql`
      INSERT INTO usages (id, user_coupon_id, coupon_id, user_id, product_id, order_id, currency_code, order_amount,
        discount_amount, item, used_at, cancelled_at)
      SELECT gen_random_uuid(), coalesce(${facts.userCouponId ?? null}::uuid, gen_random_uuid()), ${couponId}, ${facts.userId}, ${facts.productId},
        ${facts.orderId}, 'USD', 100, 1, 0, ${noon}, ${facts.cancelled ? noon : null}
      FROM generate_series(1, ${count})`;
  const none = { userId: "", couponId: "", productId: "", orderId: "", showCancelled: true };
  const all = async (filter: Partial<typeof none>, size = 50) => {
    const ids: string[] = [];
    for (let before: string | null = null; ; ) {
      const page = await usages.list({ ...none, ...filter }, { size, before }, farMs);
      ids.push(...page.rows.map(({ id }) => id));
      if (page.next === null) return ids;
      before = page.next;
    }
  };

  test("of several filters, each of which has many, are looked for in pages that are bounded", async () => {
    const userCouponId = randomUUID();
    for (let round = 0; round < 8; round++)
      await usages.list({ ...none, userId: "buyer" }, { size: 50, before: null }, farMs);
    await use(many / 2, { userId: "buyer", productId: "p", orderId: "o" });
    await use(many / 2, { userId: "another", productId: "product", orderId: "order" });
    await use(3, { userId: "buyer", productId: "product", orderId: "o", userCouponId });
    await use(2, { userId: "another", productId: "product", orderId: "order", cancelled: true });
    const page = { size: 50, before: null };
    const blocks = (filter: Partial<typeof none>) => blocksOf(() => usages.list({ ...none, ...filter }, page, farMs));
    for (const prepare of [async () => {}, () => clocked.sql`ANALYZE usages`]) {
      await prepare();
      for (const filter of [{}, { userId: "buyer" }, { productId: "product" }, { orderId: "order" }, { couponId }])
        expect(await blocks(filter)).toBeLessThan(fewBlocks);
      const both = { userId: "buyer", productId: "product" };
      expect(await blocks(both)).toBeLessThan(4 * mostUsages);
      expect(await blocks({ ...both, couponId, orderId: "o" })).toBeLessThan(4 * mostUsages);
      expect(await blocksOf(() => usages.ofUserCoupons("buyer", [userCouponId, randomUUID()], 50, farMs))).toBeLessThan(
        fewBlocks,
      );
    }
    for (const filter of [{ orderId: "o" }, { couponId }, { couponId, orderId: "o" }]) {
      const found = await all({ userId: "buyer", productId: "product", ...filter }, 2);
      expect([found.length, new Set(found).size]).toEqual([3, 3]);
    }
    const standing = await all({ orderId: "order", showCancelled: false }, 1_000);
    expect(standing.length).toBe(many / 2);
    expect((await usages.ofUserCoupons("buyer", [userCouponId], 50, farMs)).length).toBe(3);
  });

  test("are cancelled without a look at other requests or usages", async () => {
    const { sql } = clocked;
    const requests = Array.from({ length: 24 }, () => ({
      usage_id: randomUUID(),
      user_id: "u",
      request_id: randomUUID(),
      input_hash: "00",
    }));
    await sql.begin(async (tx) => {
      const cancel = () => tx`
        EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) SELECT * FROM cancel_usages(${JSON.stringify(requests)}::text::json, false)`;
      // So that the plan is of a time when there was nothing.
      for (let round = 0; round < 8; round++) await cancel();
      await tx`
        INSERT INTO requests (method, request_id, input_hash, answer, created_at)
        SELECT 'CancelUsage', n::text, '', '{}', ${noon} FROM generate_series(1, 50000) n`;
      const blocksOf = async () => {
        const [row] = await cancel();
        const { Plan } = row!["QUERY PLAN"][0];
        return Plan["Shared Hit Blocks"] + Plan["Shared Read Blocks"];
      };
      // Twice, as in explained.ts.
      expect(Math.min(await blocksOf(), await blocksOf())).toBeLessThan(fewBlocks);
    });
  });

  test("of many requests that are asked for at once are each its own", async () => {
    const requestIds = Array.from({ length: 100 }, () => randomUUID());
    await clocked.sql`
      INSERT INTO usages (id, user_coupon_id, coupon_id, user_id, product_id, order_id, currency_code, order_amount,
        discount_amount, item, used_at, request_id)
      SELECT gen_random_uuid(), gen_random_uuid(), ${couponId}, r.id, 'p', 'o', 'USD', 1, 1, i, ${noon}, r.id
      FROM unnest(${requestIds.filter((_, n) => n % 3 > 0)}::text[]) r (id) CROSS JOIN generate_series(0, 2) i`;
    const found = await Promise.all(requestIds.map((requestId) => usages.ofRequest(requestId, farMs)));
    expect(found.map((one) => one.map(({ userId }) => userId))).toEqual(
      requestIds.map((requestId, n) => (n % 3 > 0 ? [requestId, requestId, requestId] : [])),
    );
    const blocks = await blocksOf(() => Promise.all(requestIds.map((requestId) => usages.ofRequest(requestId, farMs))));
    expect(blocks).toBeLessThan(20 * requestIds.length);
  });
});

describe("the catalogue", () => {
  test("deleted coupons in front of the others are not looked at", async () => {
    const { sql } = clocked;
    const insert = (count: number, prefix: string, deletedAt: Date | null) => sql`
      INSERT INTO coupons (id, name, description, category, fixed_amount, currency_code, starts_at, expires_at, max_per_user,
        stackable, created_at, updated_at, deleted_at)
      SELECT (${prefix} || right(gen_random_uuid()::text, 28))::uuid, 'n', '', '', 1, 'USD', ${noon}, '2099-01-01', 1, false,
        ${noon}, ${noon}, ${deletedAt}
      FROM generate_series(1, ${count})`;
    const page = { size: 50, before: null };
    for (let round = 0; round < 8; round++) await coupons.list(page, false, farMs);
    await insert(60, "10000000", null);
    await insert(12_000, "20000000", noon);
    for (const prepare of [async () => {}, () => sql`ANALYZE coupons`, () => sql`VACUUM coupons`]) {
      await prepare();
      expect(await blocksOf(() => coupons.list(page, false, farMs))).toBeLessThan(fewBlocks);
      expect(await blocksOf(() => coupons.list(page, true, farMs))).toBeLessThan(fewBlocks);
    }
    expect((await coupons.list(page, false, farMs)).rows.every(({ deletedAt }) => deletedAt === null)).toBe(true);
    const { rows } = await coupons.list(page, true, farMs);
    const ids = [...rows.map(({ id }) => id), randomUUID()];
    const got = await Promise.all(ids.map((id) => coupons.get(id, farMs)));
    expect(got.map((one) => one?.value.id)).toEqual([...ids.slice(0, -1), undefined]);
  });

  test("a search without words looks at so many coupons, says so with a token, and goes on there", async () => {
    const { sql } = clocked;
    const add = (count: number, prefix: string, ended: boolean, category: string, type: string | null) => sql`
      INSERT INTO coupons (id, name, description, category, fixed_amount, currency_code, starts_at, expires_at, max_per_user,
        stackable, created_at, updated_at, type)
      SELECT (${prefix} || right(gen_random_uuid()::text, 28))::uuid, 'n', '', ${category}, 1, 'USD', '2020-01-01',
        ${ended ? "2021-01-01" : "2099-01-01"}, 1, false, ${noon}, ${noon}, ${type}
      FROM generate_series(1, ${count}::int)`;
    const wanted: CouponQuery = { words: "", category: "Rare", type: null, discountKind: null, withEnded: false };
    for (let round = 0; round < 8; round++) await search.search(wanted, { size: 20, after: null }, farMs);
    await add(25, "30000000", false, "Rare", "MEGADEAL");
    await add(9_000, "40000000", true, "Many", "FREE");
    await add(6_000, "50000000", true, "RARE", "FREE");
    const walk = async (query: Partial<CouponQuery>) => {
      const ids: string[] = [];
      for (let after: SearchCursor | null = null, pages = 1; ; pages++) {
        const before: SearchCursor | null = after;
        const request = (): Promise<FoundCoupons> =>
          search.search({ ...wanted, ...query }, { size: 20, after: before }, farMs);
        expect(await blocksOf(request)).toBeLessThan(6 * mostSearched);
        const found: FoundCoupons = await request();
        ids.push(...found.rows.map(({ id }) => id));
        if (found.next === null) return { count: ids.length, distinct: new Set(ids).size, pages };
        after = found.next;
      }
    };
    for (const prepare of [async () => {}, () => sql`ANALYZE coupon_search`]) {
      await prepare();
      expect(await walk({})).toMatchObject({ count: 25, distinct: 25, pages: 5 });
      expect(await walk({ category: "rare", type: "MEGADEAL" })).toMatchObject({ count: 25, pages: 5 });
      expect(await walk({ category: "", type: "MEGADEAL" })).toMatchObject({ count: 25, pages: 2 });
      expect(await walk({ category: "", type: "FREE" })).toMatchObject({ count: 0, pages: 8 });
      expect((await walk({ category: "", discountKind: "FIXED_AMOUNT" })).count).toBeGreaterThanOrEqual(25);
      expect((await walk({ category: "" })).count).toBeGreaterThanOrEqual(25);
      expect(await walk({ category: "nothing has this" })).toMatchObject({ count: 0, pages: 1 });
    }
  });

  test("what is issued by type is looked for among many of that type, with and without statistics", async () => {
    const { sql } = clocked;
    const counted = explained(clocked.database);
    const store = new PostgresTargetStore(counted.database);
    for (let round = 0; round < 8; round++) await store.listIssuable("STANDARD", 100);
    await sql`
      INSERT INTO coupons (id, name, description, category, fixed_amount, currency_code, starts_at, expires_at, max_per_user,
        stackable, created_at, updated_at, type)
      SELECT gen_random_uuid(), 'n', '', '', 1, 'USD', '2020-01-01', '2099-01-01'::timestamptz + n * interval '1 second', 1, false,
        ${noon}, ${noon}, 'STANDARD'
      FROM generate_series(1, 8000) n`;
    // Those end first, and cannot be issued.
    await sql`
      INSERT INTO coupons (id, name, description, category, fixed_amount, currency_code, starts_at, expires_at, max_per_user,
        stackable, created_at, updated_at, type, paused_at, deleted_at, exhausted_at)
      SELECT gen_random_uuid(), 'n', '', '', 1, 'USD', '2020-01-01', '2098-01-01'::timestamptz + n * interval '1 second', 1, false,
        ${noon}, ${noon}, 'STANDARD', CASE WHEN n % 3 = 0 THEN ${noon}::timestamptz END,
        CASE WHEN n % 3 = 1 THEN ${noon}::timestamptz END, CASE WHEN n % 3 = 2 THEN ${noon}::timestamptz END
      FROM generate_series(1, 8000) n`;
    for (const prepare of [async () => {}, () => sql`ANALYZE coupons`]) {
      await prepare();
      expect(await counted.blocksOf(() => store.listIssuable("STANDARD", 100))).toBeLessThan(fewBlocks);
    }
    const ids = await store.listIssuable("STANDARD", 100);
    const first =
      await sql`SELECT id FROM coupons WHERE type = 'STANDARD' AND expires_at > '2099-01-01' ORDER BY expires_at, id LIMIT 100`;
    expect(ids).toEqual(first.map(({ id }) => id));
  });

  test("codes of a book are a range among those of all books", async () => {
    const { sql } = clocked;
    const [small, large] = [randomUUID(), randomUUID()];
    for (const id of [small, large]) {
      await insertCoupon(sql, openCoupon(noon, { id, quantity: null }));
      await sql`UPDATE coupons SET is_code_book = true, quantity = 1000000 WHERE id = ${id}`;
    }
    const insert = (id: string, count: number) => sql`
      INSERT INTO codes (coupon_id, code, code_key, pick_key, created_at)
      SELECT ${id}, gen_random_uuid()::text, gen_random_uuid()::text, n, ${noon} FROM generate_series(1, ${count}) n`;
    await insert(large, many / 2);
    await insert(small, 60);
    const page = { size: 50, before: null };
    for (const prepare of [async () => {}, () => sql`ANALYZE codes`]) {
      await prepare();
      for (const id of [small, large])
        expect(await blocksOf(() => codes.list(ofBook(id), page, farMs))).toBeLessThan(fewBlocks);
    }
    // Codes that very many hold, who all have used them.
    await sql`
      UPDATE codes SET max_holders = ${many}, holder_count = ${many}
      WHERE id IN (SELECT id FROM codes WHERE coupon_id = ${small} ORDER BY id LIMIT 2)`;
    const [first0, second0] = await sql<
      { id: string }[]
    >`SELECT id FROM codes WHERE coupon_id = ${small} ORDER BY id LIMIT 2`;
    for (const [code, count] of [
      [first0?.id, many],
      [second0?.id, maxHoldersLooked],
    ] as const)
      await sql`
        INSERT INTO user_coupons (id, coupon_id, user_id, issued_at, code_id, use_count, place_count)
        SELECT gen_random_uuid(), ${small}, 'holder ' || n, ${noon}, ${code!}, 1, 1 FROM generate_series(1, ${count}::int) n`;
    for (const prepare of [async () => {}, () => sql`ANALYZE user_coupons`]) {
      await prepare();
      expect(await blocksOf(() => codes.list(ofBook(small), page, farMs))).toBeLessThan(
        fewBlocks + 8 * maxHoldersLooked,
      );
    }
    await sql`UPDATE coupons SET issued_total = ${many} WHERE id = ${small}`;
    const usedUp = async () =>
      (await codes.list(ofBook(small), page, farMs)).rows.slice(0, 2).map(({ code }) => code.usedUp);
    expect(await usedUp()).toEqual([false, true]);
    await sql`UPDATE coupons SET used_up_count = ${many} WHERE id = ${small}`;
    expect(await usedUp()).toEqual([true, true]);
    await sql`UPDATE user_coupons SET use_count = 0 WHERE user_id = 'holder 1' AND code_id = ${second0!.id}`;
    expect(await usedUp()).toEqual([true, false]);

    const first = await codes.list(ofBook(small), page, farMs);
    const second = await codes.list(ofBook(small), { ...page, before: first.next }, farMs);
    expect([first.rows.length, second.rows.length, second.next]).toEqual([50, 10, null]);
  });

  test("codes of some statuses are looked for only so far, and all of them are found page by page", async () => {
    const { sql } = clocked;
    const book = randomUUID();
    await insertCoupon(sql, openCoupon(noon, { id: book, quantity: null }));
    await sql`UPDATE coupons SET is_code_book = true, quantity = 1000000 WHERE id = ${book}`;
    const ago = new Date(noon.getTime() - 1);
    const insert = (count: number, taken: number, expiresAt: Date | null = null) => sql`
      INSERT INTO codes (coupon_id, code, code_key, pick_key, created_at, holder_count, expires_at)
      SELECT ${book}, gen_random_uuid()::text, gen_random_uuid()::text, n, ${noon}, ${taken}, ${expiresAt}
      FROM generate_series(1, ${count}) n`;
    const inTheWay = 2 * maxCodesLooked;
    await insert(2, 0);
    await insert(2, 1);
    await insert(inTheWay, 1, ago);
    await insert(3, 0);
    const hold = (uses: number, codes: number) => sql<{ id: string }[]>`
      INSERT INTO user_coupons (id, coupon_id, user_id, issued_at, code_id, use_count, place_count)
      SELECT gen_random_uuid(), ${book}, 'user of ' || k.id, ${noon}, k.id, ${uses}, ${uses}
      FROM codes k WHERE k.coupon_id = ${book} AND k.holder_count = 1
        AND NOT EXISTS (SELECT FROM user_coupons u WHERE u.code_id = k.id) ORDER BY k.id LIMIT ${codes}
      RETURNING code_id AS id`;
    const used = await hold(1, 1);
    await hold(0, inTheWay + 1);
    const pageOf = (statuses: CodeStatus[], size: number) => (before: string | null) =>
      codes.list(ofBook(book, statuses), { size, before }, farMs);
    const walk = async (size: number, ...statuses: CodeStatus[]) =>
      (await walkOf(pageOf(statuses, size))).map(({ code }) => code);
    const lookAtFirst = async () => {
      const first = await pageOf(["FREE"], 50)(null);
      expect([first.rows.length, first.next === null]).toEqual([2, false]);
      expect(await blocksOf(() => pageOf(["FREE"], 50)(null))).toBeLessThan(fewBlocks);
      expect(await blocksOf(() => pageOf(["USED"], 50)(null))).toBeLessThan(8 * maxCodesLooked);
    };
    const walkAll = async (size: number) => {
      const free = await walk(size, "FREE");
      expect(free.map(({ holderCount }) => holderCount)).toEqual([0, 0, 0, 0, 0]);
      expect(free.map(({ id }) => id)).toEqual(free.map(({ id }) => id).sort((a, b) => a - b));
      expect((await walk(size, "ISSUED")).length).toBe(1);
      expect((await walk(size, "USED")).map(({ id }) => String(id))).toEqual(used.map(({ id }) => String(id)));
    };
    await lookAtFirst();
    for (const size of [1, 3, 1_000]) await walkAll(size);
    expect((await walk(1_000, "EXPIRED")).length).toBe(inTheWay);
    expect((await walk(1_000, "FREE", "ISSUED", "USED", "EXPIRED")).length).toBe(inTheWay + 7);
    // Statistics change what is read, and not what is found.
    await sql`ANALYZE codes`;
    await lookAtFirst();
    await walkAll(3);
  });
});
