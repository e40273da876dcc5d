import { performance } from "node:perf_hooks";
import type { MessageInitShape } from "@bufbuild/protobuf";
import postgres from "postgres";
import { startEmbedded } from "../../embedded/embedded.js";
import {
  CatalogService,
  DiscountKind,
  type SearchCouponsRequestSchema,
} from "../../gen/coupon/v1/catalog_service_pb.js";
import { CouponType } from "../../gen/coupon/v1/coupon_pb.js";
import { searchPath } from "../../src/storage/postgres/migrating/release-functions.js";
import { maxLooked, windowSize } from "../../src/storage/postgres/search/search-store.js";
import { Api } from "../support/api.js";
import { describeMachine } from "../support/machine.js";
import { grouped } from "../support/numbers.js";
import { startReplica } from "../support/replica.js";
import { categoryAt, fillCatalogue, timeOfAdding, wordAt } from "./coupons.js";

const coupons = Number(process.argv[2] ?? 1_000_000);
const warmUpCalls = 20;
const calls = 500;

type Request = Exclude<MessageInitShape<typeof SearchCouponsRequestSchema>, { $typeName: string }>;

/** The n-th most frequent word is in about 1/n of the coupons' texts that the most frequent one is in. */
const queries: readonly (readonly [string, Request, "second page"?])[] = [
  ["a rare word", { query: wordAt(15_000) }],
  ["a very common word", { query: wordAt(1) }],
  ["two common words", { query: `${wordAt(2)} ${wordAt(3)}` }],
  ["a rare and a common word", { query: `${wordAt(9_000)} ${wordAt(1)}` }],
  ["the beginning of a word", { query: wordAt(500).slice(0, 4) }],
  ["a mistyped word", { query: mistyped(wordAt(50)) }],
  ["a category", { category: categoryAt(20) }],
  ["a category and a word", { category: categoryAt(20), query: wordAt(5) }],
  ["a type and a kind of discount", { type: CouponType.FREE, discountKind: DiscountKind.FIXED_AMOUNT }],
  ["a common word, second page", { query: wordAt(1) }, "second page"],
];

/** With its third and fourth letter in the wrong order. */
function mistyped(word: string): string {
  return `${word.slice(0, 2)}${word[3]}${word[2]}${word.slice(4)}`;
}

const cleanups: (() => Promise<unknown>)[] = [];
try {
  console.log(
    `${describeMachine()}; ${grouped(coupons)} coupons; one caller, who shares the machine with all servers.`,
  );
  const stores = await startEmbedded();
  cleanups.push(() => stores.stop());
  const replica = await startReplica({ databaseUrl: stores.databaseUrl!, redisUrl: stores.redisUrl });
  cleanups.push(() => replica.stop());
  const notices: string[] = [];
  const sql = postgres(stores.databaseUrl!, {
    max: 1,
    onnotice: ({ message }) => notices.push(message ?? ""),
    connection: { search_path: searchPath() },
  });
  cleanups.push(() => sql.end());
  const api = new Api([replica.target]);
  cleanups.push(async () => api.close());

  await fillCatalogue(sql, coupons, (done) => process.stderr.write(`\r${grouped(done)} coupons`));
  process.stderr.write("\n");
  await sql.unsafe("LOAD 'auto_explain'; SET auto_explain.log_nested_statements = on");
  await sql.unsafe("SET client_min_messages = log; SET auto_explain.log_level = log");

  const { withSearch, without } = await timeOfAdding(sql);
  console.log(
    `1,000 coupons added by one statement: ${withSearch.toFixed(0)} ms; ${without.toFixed(0)} ms without the search.`,
  );
  console.log(`\n  ${"".padEnd(32)}found      p50      p99   of it in Postgres   indexes`);
  const [some] = await sql`SELECT id FROM coupons LIMIT 1`;
  const reading = await timesOf(() => api.call(CatalogService.method.getCoupon, { couponId: some!.id }));
  console.log(lineOf("to compare with: GetCoupon", 1, reading));
  for (const [title, first, page] of queries) {
    const firstPage = await api.call(CatalogService.method.searchCoupons, first);
    const request = page ? { ...first, pageToken: firstPage.nextPageToken } : first;
    let found = 0;
    const times = await timesOf(async () => {
      found = (await api.call(CatalogService.method.searchCoupons, request)).coupons.length;
    });
    const after = page ? firstPage.coupons.at(-1)!.id : null;
    const inPostgres = () => sql`
      SELECT * FROM search_coupons(${request.query ?? ""}, ${request.category ?? null},
        ${request.type ? CouponType[request.type]! : null}, ${request.discountKind ? DiscountKind[request.discountKind]! : null},
        false, 20, ${after && 1}, ${after}, ${windowSize}, ${maxLooked})`;
    const postgresTimes = await timesOf(inPostgres);
    notices.length = 0;
    await sql`SET auto_explain.log_min_duration = 0`;
    await inPostgres();
    await sql`SET auto_explain.log_min_duration = -1`;
    console.log(`${lineOf(title, found, times, postgresTimes)}   ${indexesOf(notices).join(", ")}`);
  }
} finally {
  for (const cleanup of cleanups.reverse()) await cleanup();
}

/** How long calls took, in ms, the shortest first. */
async function timesOf(call: () => Promise<unknown>): Promise<number[]> {
  const times: number[] = [];
  for (let count = -warmUpCalls; count < calls; count += 1) {
    const begin = performance.now();
    await call();
    if (count >= 0) times.push(performance.now() - begin);
  }
  return times.sort((a, b) => a - b);
}

/** Found, then p50 and p99 of each. */
function lineOf(title: string, found: number, ...all: readonly (readonly number[])[]): string {
  const cells = all.flatMap((times) => [times[calls / 2]!.toFixed(1), times[Math.floor(calls * 0.99)]!.toFixed(1)]);
  return `  ${title.padEnd(31)}${[String(found), ...cells].map((cell) => cell.padStart(6)).join("   ")}`;
}

/** The indexes in the plans that Postgres has run, in the order of their use. A scan of a whole table has none. */
function indexesOf(plans: readonly string[]): string[] {
  const names = plans.flatMap((plan) => [
    ...plan.matchAll(/(?:Scan(?: Backward)? using|Bitmap Index Scan on) (\w+)|(Seq Scan on \w+)/g),
  ]);
  return [...new Set(names.map(([, index, wholeTable]) => index ?? wholeTable!.toUpperCase()))];
}
