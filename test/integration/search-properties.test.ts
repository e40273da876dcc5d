import fc from "fast-check";
import { afterAll, beforeAll, expect, test } from "vitest";
import type { CouponQuery } from "../../src/storage/ports/search.js";
import { PostgresSearchStore } from "../../src/storage/postgres/search/search-store.js";
import { type ClockedDatabase, openClockedDatabase } from "./clocked-database.js";
import { searchModel } from "./search-model.js";
import { coupon, insertSearched, type SearchedCoupon, searchAll } from "./search-world.js";

const noon = new Date("2026-11-21T12:00:00Z");
const runs = 150;
let clocked: ClockedDatabase;

beforeAll(async () => {
  clocked = await openClockedDatabase(noon);
});

afterAll(() => clocked?.close());

// Few letters, so that words share beginnings, letters and coupons.
const word = fc.string({ unit: fc.constantFrom("a", "b", "c", "B"), minLength: 1, maxLength: 6 });
const glue = fc.constantFrom(" ", "  ", "-", ".", "/", " & ", "'", ", ", "_", "@", "! ");
const text = (maxLength: number) =>
  fc
    .array(
      fc.tuple(fc.oneof({ weight: 9, arbitrary: word }, { weight: 1, arbitrary: fc.constantFrom("50", "2x") }), glue),
      {
        maxLength,
      },
    )
    .map((parts) => parts.flat().join(""));
const category = fc.constantFrom("", "ab", "AB", "c b");
const type = fc.constantFrom("FREE", "STANDARD", null);
const discountKind = fc.constantFrom("PERCENTAGE", "FIXED_AMOUNT");
const catalogue = fc.array(
  fc.record({
    name: text(3),
    category,
    description: text(5),
    type,
    discountKind,
    expiresAt: fc.constantFrom(-1, 0, 1, 60_000).map((ms) => new Date(noon.getTime() + ms)),
    fate: fc.constantFrom("stays", "stays", "stays", "deleted", "renamed"),
    laterName: text(2),
  }),
  { maxLength: 25 },
);
const query: fc.Arbitrary<CouponQuery> = fc.record({
  words: fc.oneof(text(3), fc.constant("")),
  category,
  type,
  discountKind: fc.option(discountKind),
  withEnded: fc.boolean(),
});

test("small catalogues are searched as the model says, by the window and by the indexes, page by page", async () => {
  const check = async (facts: typeof catalogue extends fc.Arbitrary<infer T> ? T : never, queries: CouponQuery[]) => {
    await clocked.sql`TRUNCATE coupons, coupon_search, search_words`;
    const before = facts.map(({ fate: _, laterName: _later, ...one }) => coupon(noon, one));
    await insertSearched(clocked.sql, noon, before);
    const coupons: SearchedCoupon[] = [];
    for (const [index, one] of before.entries()) {
      const { fate, laterName } = facts[index]!;
      if (fate === "deleted") await clocked.sql`UPDATE coupons SET deleted_at = ${noon} WHERE id = ${one.id}`;
      else if (fate === "renamed") await clocked.sql`UPDATE coupons SET name = ${laterName} WHERE id = ${one.id}`;
      if (fate !== "deleted") coupons.push(fate === "renamed" ? { ...one, name: laterName } : one);
    }
    const known = new Set((await clocked.sql`SELECT word FROM search_words`).map(({ word }) => word as string));
    for (const asked of queries) {
      const expected = searchModel(coupons, known, asked, noon);
      for (const windowSize of [0, 1, 50]) {
        const store = new PostgresSearchStore(clocked.database, { windowSize });
        expect(await searchAll(store, asked, 1 + (windowSize % 7)), JSON.stringify(asked)).toEqual(expected);
      }
    }
  };
  await fc.assert(fc.asyncProperty(catalogue, fc.array(query, { minLength: 1, maxLength: 4 }), check), {
    numRuns: runs,
  });
}, 240_000);
