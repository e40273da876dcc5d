import { createHash, randomUUID } from "node:crypto";
import { expect, test } from "vitest";
import {
  bucketsPerPage,
  type HoldingPage,
  leastBuckets,
  maxGiven,
  packHoldings,
  requestHash,
  unpackHoldings,
  userHash,
} from "../../src/reservation/packed-holdings.js";
import type { Holding } from "../../src/reservation/port.js";
import { BucketSort, SortRoom } from "../../src/storage/postgres/issuing/bucket-sort.js";

const requestOf = (n: number) => (n % 2 === 0 ? randomUUID() : "");
const endOf = (n: number) => (n % 3 === 0 ? new Date(1_800_000_000_000 + n) : null);
const holdingsOf = (count: number, userIdOf: (n: number) => string): Holding[] =>
  Array.from({ length: count }, (_, n) => ({
    ...{ userId: userIdOf(n), userCouponId: randomUUID(), requestId: requestOf(n), validUntil: endOf(n) },
  }));

/** As pack_holdings.sql answers them. */
function rowsOf(holdings: readonly Holding[]): Buffer {
  return Buffer.concat(
    holdings.flatMap((one) => {
      const [page] = packHoldings([one]);
      const hash = createHash("sha256").update(one.userId).digest().subarray(0, 3);
      return [hash, page?.subarray(8) ?? Buffer.alloc(0)];
    }),
  );
}

async function taken(sort: BucketSort): Promise<HoldingPage[]> {
  const pages: HoldingPage[] = [];
  for await (const page of sort.take()) pages.push(page);
  return pages;
}

const byId = (pages: readonly HoldingPage[]) =>
  pages.flatMap(unpackHoldings).sort((a, b) => (a.userCouponId < b.userCouponId ? -1 : 1));

const cases = [
  { what: "many users", holdings: holdingsOf(20_000, (n) => `user-${n}`), bucketCount: leastBuckets * 4 },
  { what: "one user with very many", holdings: holdingsOf(3_000, () => "u"), bucketCount: leastBuckets },
  {
    what: "the longest ids",
    holdings: holdingsOf(60, (n) => `${"\u{1f600}".repeat(127)}${n}`),
    bucketCount: leastBuckets,
  },
  { what: "nobody", holdings: [], bucketCount: leastBuckets },
];

test.each(cases)("puts each holding into its bucket, and each bucket into one page: $what", async (given) => {
  const { holdings, bucketCount } = given;
  const room = new SortRoom(1);
  const sort = new BucketSort(bucketCount, room);
  for (let at = 0; at < holdings.length; at += 700) {
    const some = holdings.slice(at, at + 700);
    expect(sort.add(rowsOf(some))).toBe(some.length);
  }
  const pages = await taken(sort);
  expect(byId(pages)).toEqual(byId(packHoldings(holdings, bucketCount)));
  const buckets = pages.flatMap((page) => [...new Set(unpackHoldings(page).map(({ bucket }) => bucket))]);
  expect(new Set(buckets).size).toBe(buckets.length);
  for (const page of pages) {
    expect(new Set(unpackHoldings(page).map(({ bucket }) => bucket)).size).toBeLessThanOrEqual(bucketsPerPage);
  }
});

test("goes on after all was taken, and gives its room back", async () => {
  const room = new SortRoom(10_000);
  const [first, second] = [new BucketSort(leastBuckets, room), new BucketSort(leastBuckets, room)];
  const [before, after] = [holdingsOf(100, (n) => `a${n}`), holdingsOf(100, (n) => `b${n}`)];
  first.add(rowsOf(before));
  expect(room.isFull).toBe(true);
  const early = await taken(first);
  expect(room.taken).toBe(0);
  first.add(rowsOf(after));
  expect(byId([...early, ...(await taken(first))])).toEqual(byId(packHoldings([...before, ...after])));
  // One that is given up in the middle.
  second.add(rowsOf(before));
  await second.take().next();
  second.close();
  first.close();
  expect(room.taken).toBe(0);
});

test("of requests whose user coupons are held no more a bucket gets so many, or one that stands for all", async () => {
  const givenOf = (userId: string, count: number) =>
    Array.from({ length: count }, (_, n) => ({ userId, requestId: `${userId} ${n}` }));
  const given = [...givenOf("few", maxGiven), ...givenOf("many", maxGiven + 1)];
  const holdings = [...holdingsOf(3, () => "few"), ...holdingsOf(3, () => "many")];
  const sort = new BucketSort(leastBuckets, new SortRoom(1_000_000));
  sort.add(rowsOf(holdings));
  sort.add(
    Buffer.concat(
      given.flatMap((one) => [
        createHash("sha256").update(one.userId).digest().subarray(0, 3),
        (packHoldings([], leastBuckets, [one])[0] as HoldingPage).subarray(8),
      ]),
    ),
  );
  const pages = (await taken(sort)).flatMap(unpackHoldings);
  const ofNobody = (userId: string) =>
    pages.filter((one) => one.userId === "" && one.bucket === userHash(userId) % leastBuckets);
  expect(ofNobody("few").map((one) => one.requestHash)).toEqual(
    givenOf("few", maxGiven).map(({ requestId }) => requestHash(requestId)),
  );
  expect(ofNobody("many").map((one) => one.requestHash)).toEqual(["f".repeat(16)]);
  expect(pages.filter((one) => one.userId !== "")).toHaveLength(6);
});
