import { afterAll, beforeAll, beforeEach, expect, test } from "vitest";
import type { CouponQuery } from "../../src/storage/ports/search.js";
import { PostgresSearchStore } from "../../src/storage/postgres/search/search-store.js";
import { type ClockedDatabase, openClockedDatabase } from "./clocked-database.js";
import { coupon, insertSearched, type SearchedCoupon, searchAll } from "./search-world.js";

const noon = new Date("2026-11-21T12:00:00Z");
const after = (ms: number) => new Date(noon.getTime() + ms);

let clocked: ClockedDatabase;
let store: PostgresSearchStore;

beforeAll(async () => {
  clocked = await openClockedDatabase(noon);
  store = new PostgresSearchStore(clocked.database);
});

beforeEach(async () => {
  await clocked.sql`TRUNCATE coupons, coupon_search, search_words`;
  await clocked.setClock(noon);
});

afterAll(() => clocked?.close());

/** Adds coupons, the oldest first, named by their keys. */
async function add<K extends string>(facts: Record<K, Partial<SearchedCoupon>>): Promise<Record<K, string>> {
  const coupons = Object.entries<Partial<SearchedCoupon>>(facts).map(([key, one]) => [key, coupon(noon, one)] as const);
  await insertSearched(
    clocked.sql,
    noon,
    coupons.map(([, one]) => one),
  );
  return Object.fromEntries(coupons.map(([key, { id }]) => [key, id])) as Record<K, string>;
}

/** The keys of what is found, in order. */
async function found(ids: Record<string, string>, query: Partial<CouponQuery> | string): Promise<string[]> {
  const keys = new Map(Object.entries(ids).map(([key, id]) => [id, key]));
  const answer = await searchAll(store, typeof query === "string" ? { words: query } : query);
  return answer.ids.map((id) => keys.get(id) ?? id);
}

test("all words in the name come before all words somewhere, the newest first in both", async () => {
  const ids = await add({
    oldName: { name: "Coffee and cake" },
    oldBoth: { name: "Coffee", description: "with a cake" },
    newName: { name: "Cake with coffee" },
    newBoth: { name: "Breakfast", category: "Cake", description: "Coffee, too." },
    half: { name: "Coffee" },
  });
  expect(await found(ids, "coffee CAKE")).toEqual(["newName", "oldName", "newBoth", "oldBoth"]);
});

test("a word finds longer ones that begin with it, and not those that have it inside", async () => {
  const ids = await add({
    shop: { name: "coffeeshop" },
    shops: { name: "Coffee-shops" },
    inside: { name: "decoffee" },
  });
  expect(await found(ids, "coff")).toEqual(["shops", "shop"]);
  expect(await found(ids, "shop")).toEqual(["shops"]);
});

test("a word that occurs nowhere is replaced by those most like it, once each", async () => {
  const ids = await add({ coffee: { name: "Coffee" }, toffee: { name: "Toffee" }, tea: { name: "Tea" } });
  expect(await searchAll(store, { words: "coffee cofee" })).toEqual({ ids: [ids.coffee], correctedQuery: "coffee" });
  expect(await searchAll(store, { words: "cofee" })).toMatchObject({ correctedQuery: "coffee" });
  expect(await searchAll(store, { words: "coffee" })).toEqual({ ids: [ids.coffee], correctedQuery: "" });
  expect(await searchAll(store, { words: "coffee xylophone" })).toEqual({ ids: [], correctedQuery: "" });
});

test("a number is not taken for another one", async () => {
  const ids = await add({ off: { name: "Save 12345 now" } });
  expect(await found(ids, "12345")).toEqual(["off"]);
  expect(await found(ids, "12346")).toEqual([]);
});

test("filters must all hold, with and without words; a category is whole and without case", async () => {
  const ids = await add({
    one: { name: "Coffee", category: "ÉCLAIRS & Co", type: "FREE", discountKind: "FIXED_AMOUNT" },
    two: { name: "Coffee", category: "éclairs & co", type: "STANDARD", discountKind: "PERCENTAGE" },
    other: { name: "Coffee", category: "éclairs" },
  });
  expect(await found(ids, { category: "Éclairs & CO" })).toEqual(["two", "one"]);
  expect(await found(ids, { category: "éclairs & co", words: "coffee", type: "FREE" })).toEqual(["one"]);
  expect(await found(ids, { type: "STANDARD", discountKind: "PERCENTAGE" })).toEqual(["two"]);
  expect(await found(ids, { type: "STANDARD", discountKind: "FIXED_AMOUNT" })).toEqual([]);
  expect(await found(ids, { category: "o'brien's \\ | !(" })).toEqual([]);
});

test("a coupon leaves at the moment in which it ends, unless ended ones are wanted", async () => {
  const ids = await add({
    ends: { name: "Tea", expiresAt: after(1_000) },
    stays: { name: "Tea", expiresAt: after(9_000) },
  });
  await clocked.setClock(after(999));
  expect(await found(ids, "tea")).toEqual(["stays", "ends"]);
  await clocked.setClock(after(1_000));
  expect(await found(ids, "tea")).toEqual(["stays"]);
  expect(await found(ids, "")).toEqual(["stays"]);
  expect(await found(ids, { words: "tea", withEnded: true })).toEqual(["stays", "ends"]);
  await clocked.sql`UPDATE coupons SET expires_at = ${after(5_000)} WHERE id = ${ids.ends}`;
  expect(await found(ids, "tea")).toEqual(["stays", "ends"]);
});

test("a coupon that has ended is not on a full page either, which the newest coupons fill by themselves", async () => {
  const ids = await add({ first: { name: "Tea" }, second: { name: "Tea" }, ends: { name: "Tea", expiresAt: noon } });
  expect((await searchAll(store, { words: "tea" }, 1)).ids).toEqual([ids.second, ids.first]);
  expect((await searchAll(store, {}, 1)).ids).toEqual([ids.second, ids.first]);
});

test("what was changed is found by its new words and filters only, and what was deleted by none", async () => {
  const ids = await add({ one: { name: "Coffee", type: "FREE" }, two: { name: "Coffee" } });
  await clocked.sql`
    UPDATE coupons SET name = 'Tea', type = 'STANDARD', percentage_basis_points = NULL, fixed_amount = 5, currency_code = 'USD'
    WHERE id = ${ids.one}`;
  expect(await found(ids, "coffee")).toEqual(["two"]);
  expect(await found(ids, "tea")).toEqual(["one"]);
  expect(await found(ids, { type: "FREE" })).toEqual([]);
  expect(await found(ids, { type: "STANDARD", discountKind: "FIXED_AMOUNT" })).toEqual(["one"]);
  await clocked.sql`UPDATE coupons SET deleted_at = ${noon}`;
  expect(await found(ids, { withEnded: true })).toEqual([]);
});

test("a mistyped word that a coupon had until it was put right finds it by the right one, on every page", async () => {
  const ids = await add({ one: { name: "Cofee" }, two: { name: "Coffee" } });
  await clocked.sql`UPDATE coupons SET name = 'Coffee' WHERE id = ${ids.one}`;
  expect(await searchAll(store, { words: "cofee" }, 1)).toEqual({ ids: [ids.two, ids.one], correctedQuery: "coffee" });
});

test("the pool of a type is never found, also after it was changed", async () => {
  const ids = await add({ pool: { name: "Coffee", type: "FREE", isTypePool: true } });
  await clocked.sql`UPDATE coupons SET name = 'Coffee pool', expires_at = ${after(9_000_000)}`;
  expect(await found(ids, "coffee")).toEqual([]);
  expect(await found(ids, "")).toEqual([]);
});

test("what issues and uses write touches no row of the search", async () => {
  const { one } = await add({ one: { name: "Coffee" } });
  const version = async () => (await clocked.sql`SELECT xmin::text, ctid::text FROM coupon_search`)[0];
  const before = await version();
  await clocked.sql`UPDATE coupons SET issued_count = issued_count + 1, issued_total = issued_total + 1, used_count = 0`;
  await clocked.sql`UPDATE coupons SET name = name, expires_at = expires_at WHERE id = ${one}`;
  expect(await version()).toEqual(before);
});

test.for([
  ["quotes and operators", `'coffee' & !"tea" | (x <-> y):*\\`],
  ["a quote at the end of a word", "coffee'"],
  ["emoji", "☕ 🎉"],
  ["only punctuation", "!?.,;:-_/@<>&+*()[]{}'\"\\|"],
  ["200 characters of one word", "x".repeat(200)],
  ["200 characters of many words", "a ".repeat(100)],
  ["200 characters of four bytes", "𝒳".repeat(100)],
  ["an address", "https://example.com/a?b=c&d=e#f user@example.com"],
  ["numbers with signs", "-1.5e10 +3 1,000.50 50%"],
  ["a tag and an entity", "<b>coffee</b> &amp; &#9749;"],
  ["the marks of filters", "=c =t FREE =k"],
] as const)("a coupon that says just that is found by it: %s", async ([, words]) => {
  const ids = await add({ it: { name: "It", description: words }, other: { name: "another thing", category: "FREE" } });
  for (const windowSize of [0, 50]) {
    store = new PostgresSearchStore(clocked.database, { windowSize });
    expect(await found(ids, words)).toContain("it");
  }
});

test("only the first eight words count", async () => {
  const ids = await add({ one: { name: "a b c d e f g h" } });
  expect(await found(ids, "a b c d e f g h zzz")).toEqual(["one"]);
  expect(await found(ids, "a b c d e f g zzz")).toEqual([]);
});

test("words that begin very many others are found together with rare ones", async () => {
  const coupons = Array.from({ length: 300 }, (_, n) =>
    coupon(noon, { name: `s${n.toString(36)}`, description: n % 100 === 7 ? "rare" : "common" }),
  );
  await insertSearched(clocked.sql, noon, coupons);
  for (const windowSize of [0, 1, 50]) {
    const sized = new PostgresSearchStore(clocked.database, { windowSize });
    const expected = [207, 107, 7].map((n) => coupons[n]!.id);
    expect((await searchAll(sized, { words: "s rare" }, 2)).ids).toEqual(expected);
    expect((await searchAll(sized, { words: "s" }, 100)).ids).toEqual(coupons.map(({ id }) => id).reverse());
  }
});

test("paging through everything gives each coupon once, while others are added", async () => {
  const make = (n: number) => coupon(noon, { name: n % 3 === 0 ? "Coffee" : "Tea", description: "coffee" });
  const coupons = Array.from({ length: 200 }, (_, n) => make(n));
  await insertSearched(clocked.sql, noon, coupons);
  for (const words of ["coffee", ""]) {
    for (const windowSize of [0, 2, 50]) {
      const sized = new PostgresSearchStore(clocked.database, { windowSize });
      const addOne = async () => {
        await insertSearched(clocked.sql, noon, [0, 1].map(make));
      };
      const { ids } = await searchAll(sized, { words }, 7, addOne);
      expect(new Set(ids).size).toBe(ids.length);
      expect(ids).toEqual(expect.arrayContaining(coupons.map(({ id }) => id)));
    }
  }
});

test("creates that bring the same new words at once do not deadlock", async () => {
  for (const round of ["first", "second", "third"]) {
    const description = Array.from({ length: 2_000 }, (_, n) => `${round}${n}`).join(" ");
    const coupons = () => [0, 1, 2].map(() => coupon(noon, { description }));
    await Promise.all([1, 2, 3, 4].map(() => insertSearched(clocked.sql, noon, coupons())));
    expect((await searchAll(store, { words: `${round} ${round}1999` })).ids).toHaveLength(12);
  }
});
