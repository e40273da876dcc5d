import { randomUUID } from "node:crypto";
import type { Sql } from "postgres";
import { afterAll, beforeAll, expect, test } from "vitest";
import type { IssueRequest, IssueResult } from "../../src/storage/ports/issues.js";
import { PostgresIssueStore } from "../../src/storage/postgres/issuing/issue-store.js";
import {
  type ClockedDatabase,
  insertCoupon,
  insertHoldings,
  openClockedDatabase,
  openCoupon,
} from "./clocked-database.js";
import { insertCodes } from "./codes-world.js";
import { untilWaiting } from "./waiting.js";

const noon = new Date("2030-06-01T12:00:00.000Z");
const farMs = Date.now() + 3_600_000;

let clocked: ClockedDatabase;
let store: PostgresIssueStore;

beforeAll(async () => {
  clocked = await openClockedDatabase(noon);
  store = new PostgresIssueStore(clocked.database);
});
afterAll(() => clocked?.close());

const newCoupon = (quantity: number | null) => insertCoupon(clocked.sql, openCoupon(noon, { quantity }));
const requestOf = (couponId: string, userId: string, more: Partial<IssueRequest> = {}): IssueRequest => ({
  ...{ couponId, userId, requestId: "", userCouponId: randomUUID() },
  ...more,
});
const saidOf = (results: readonly IssueResult[]) =>
  results.map((one) => (one.outcome === "REFUSED" ? one.reason : one.outcome));

test("the last unit is not kept for a request id that another transaction is about to use", async () => {
  const [couponId, other] = [await newCoupon(1), await newCoupon(9)];
  const requestId = randomUUID();
  let results: Promise<IssueResult[]> | undefined;
  await clocked.sql.begin(async (tx) => {
    const holding = { couponId: other, userId: "u", slot: 1, requestId, validUntil: null };
    await insertHoldings(tx as unknown as Sql, [holding], noon);
    results = store.issueBatch([requestOf(couponId, "doomed", { requestId }), requestOf(couponId, "valid")]);
    // The first row waits to hear whether the request id is taken; both have been ranked by then.
    await untilWaiting(clocked.sql, 1);
  });
  expect(saidOf((await results) as IssueResult[])).toEqual(["REQUEST_ID_REUSED", "ISSUED"]);
  expect(await store.readStock(couponId, farMs)).toBe(0);
});

test("who wants a code that is taken keeps nobody from another, in the same batch", async () => {
  const couponId = await newCoupon(0);
  const [taken, free] = await insertCodes(clocked.sql, couponId, [{ code: "LAST-TAKEN" }, { code: "LAST-FREE" }]);
  const wanting = (userId: string, codeId?: number) => requestOf(couponId, userId, codeId ? { codeId } : {});
  expect(saidOf(await store.issueBatch([wanting("first", taken)]))).toEqual(["ISSUED"]);
  const crowd = Array.from({ length: 29 }, (_, n) => wanting(`t${n}`, taken));
  const results = saidOf(await store.issueBatch([...crowd, wanting("valid", free), wanting("late", free)]));
  expect(results.slice(0, 29)).toEqual(crowd.map(() => "CODE_TAKEN"));
  expect(results.slice(29)).toEqual(["ISSUED", "CODE_TAKEN"]);
});

test("who may have no other one keeps nobody from the code that both want, in the same batch", async () => {
  const couponId = await newCoupon(0);
  const [own, wanted] = await insertCodes(clocked.sql, couponId, [{ code: "SEAT-OWN" }, { code: "SEAT-WANTED" }]);
  const wanting = (userId: string, codeId?: number) => requestOf(couponId, userId, codeId ? { codeId } : {});
  expect(saidOf(await store.issueBatch([wanting("has one", own)]))).toEqual(["ISSUED"]);
  const both = [wanting("has one", wanted), wanting("has none", wanted)];
  expect(saidOf(await store.issueBatch(both))).toEqual(["ALREADY_ISSUED", "ISSUED"]);
});

test("what is left is read anew by each who asks, and by those of one moment together", async () => {
  const couponId = await newCoupon(2);
  const read = () => store.readStock(couponId, farMs);
  expect(await Promise.all([read(), read(), read()])).toEqual([2, 2, 2]);
  for (const [left, userId] of [
    [1, "a"],
    [0, "b"],
  ] as const) {
    // Under way since before the unit was issued: who asks after that must not be told of it.
    const before = read();
    await store.issueBatch([requestOf(couponId, userId)]);
    expect(await read()).toBe(left);
    await before;
  }
  expect(await store.readStock(await newCoupon(null), farMs)).toBeNull();
  expect(await store.readStock(randomUUID(), farMs)).toBeNull();
});
