import { randomUUID } from "node:crypto";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { codeKey, type NewCode } from "../../src/domain/code.js";
import { Refusal } from "../../src/domain/refusal.js";
import type { CodeTarget, DeletedCodes, WhichCodes } from "../../src/storage/ports/codes.js";
import type { RequestKey } from "../../src/storage/ports/page.js";
import { PostgresCodeStore } from "../../src/storage/postgres/codes/code-store.js";
import { PostgresIssueStore } from "../../src/storage/postgres/issuing/issue-store.js";
import { PostgresStatsStore } from "../../src/storage/postgres/stats/stats-store.js";
import { callContext } from "../support/call-context.js";
import { countedStats, miscounted } from "../support/counted-stats.js";
import { type ClockedDatabase, openClockedDatabase } from "./clocked-database.js";
import { insertBook, readBook, storedEvents } from "./code-world.js";
import { expireCodes } from "./codes-world.js";

const noon = new Date("2026-11-21T12:00:00.000Z");
const later = (ms: number) => new Date(noon.getTime() + ms);
const farMs = Number.POSITIVE_INFINITY;
const call = callContext(farMs);
const largeCount = process.env.FAULT_SCALE === "1" ? 1_000_000 : 6_000;

let clocked: ClockedDatabase;
let store: PostgresCodeStore;
let issues: PostgresIssueStore;

beforeAll(async () => {
  clocked = await openClockedDatabase(noon);
  store = new PostgresCodeStore(clocked.database);
  issues = new PostgresIssueStore(clocked.database);
});
afterAll(async () => {
  expect(await miscounted(clocked.sql)).toEqual([]);
  await clocked.close();
});

const newBook = () => insertBook(clocked.sql, noon);
const namesOf = (prefix: string, count: number) => Array.from({ length: count }, (_, n) => `${prefix}-${n}`);

async function upload(target: CodeTarget, names: readonly string[], terms: Partial<NewCode["terms"]> = {}) {
  const good = names.map((code, n) => ({
    ...{ line: n + 1, code, key: codeKey(code, false), pickKey: n },
    terms: { discount: null, expiresAt: null, maxUses: null, maxHolders: 1, ...terms },
  }));
  const uploaded = await store.upload({ target, request: null }, async () => ({ good, rejected: [] }), call);
  if (uploaded instanceof Refusal) throw new Error(uploaded.reason);
  return uploaded;
}

interface Options {
  readonly request?: RequestKey | null;
  readonly mostLooked?: number;
}

const tryToDelete = (target: CodeTarget, which: WhichCodes, { request = null, mostLooked }: Options = {}) =>
  store.delete({ target, which, request }, call, mostLooked);

async function deleted(...args: Parameters<typeof tryToDelete>): Promise<DeletedCodes> {
  const answer = await tryToDelete(...args);
  if (answer instanceof Refusal) throw new Error(answer.reason);
  return answer;
}

const ofUpload = (id: string, after: string | null = null): WhichCodes => ({ source: { kind: "upload", id }, after });
const ofJob = (id: string, after: string | null = null): WhichCodes => ({ source: { kind: "job", id }, after });

/** All steps, from the beginning. */
async function deleteAll(couponId: string, which: (after: string | null) => WhichCodes, mostLooked?: number) {
  const total = { deletedCount: 0, takenCount: 0, steps: 0 };
  for (let after: string | null = null; total.steps === 0 || after !== null; total.steps++) {
    const step: DeletedCodes = await deleted(
      { couponId },
      which(after),
      mostLooked === undefined ? {} : { mostLooked },
    );
    total.deletedCount += step.deletedCount;
    total.takenCount += step.takenCount;
    after = step.next;
  }
  return total;
}

async function issue(couponId: string, count = 1, codeId?: number): Promise<string[]> {
  const requests = Array.from({ length: count }, () => ({
    ...{ couponId, userId: randomUUID(), userCouponId: randomUUID(), requestId: "" },
    ...(codeId !== undefined && { codeId }),
  }));
  return (await issues.issueBatch(requests)).map((one) =>
    one.outcome === "ISSUED" ? (one.userCoupon.code ?? "") : one.outcome === "REFUSED" ? one.reason : one.outcome,
  );
}

const textsOf = async (couponId: string) =>
  (await clocked.sql`SELECT code FROM codes WHERE coupon_id = ${couponId} ORDER BY id`).map(({ code }) => code);

describe("codes that are named", () => {
  test("are deleted when they are free, each with its own outcome, and leave the stock", async () => {
    const [couponId, other] = [await newBook(), await newBook()];
    await upload({ couponId }, ["Named-1"], { maxHolders: 5 });
    await upload({ couponId }, ["named-2"], { expiresAt: later(1) });
    await upload({ couponId }, ["named-3"]);
    await upload({ couponId: other }, ["elsewhere"]);
    const [taken] = await issue(couponId);
    expect(taken).toBe("Named-1");
    const [{ id }] = (await clocked.sql`SELECT id FROM codes WHERE code = 'named-3'`) as [{ id: string }];
    const codes = ["NAMED 3", "named-1", "elsewhere", "unknown", "named_3", "named-2"];
    const before = await readBook(clocked.sql, couponId);
    expect(await deleted({ couponId }, { codes })).toEqual({
      ...{ couponId, deletedCount: 2, takenCount: 1, next: null },
      outcomes: ["DELETED", "TAKEN", "NOT_FOUND", "NOT_FOUND", "DELETED", "DELETED"],
    });
    expect(await textsOf(couponId)).toEqual(["Named-1"]);
    expect(await textsOf(other)).toEqual(["elsewhere"]);
    expect(await readBook(clocked.sql, couponId)).toEqual({
      ...before,
      ...{ quantity: before.quantity - 2, revision: before.revision + 1 },
    });
    expect((await storedEvents(clocked.sql, couponId)).at(-1)).toEqual([
      "CODES_DELETED",
      { codeCount: 2, placeCount: 2 },
    ]);
    expect(await issue(couponId, 1, Number(id))).toEqual(["CODE_NOT_FOUND"]);
    // Again, nothing changes.
    const after = await readBook(clocked.sql, couponId);
    expect(await deleted({ couponId }, { codes: ["named-3"] })).toMatchObject({
      outcomes: ["NOT_FOUND"],
      deletedCount: 0,
    });
    expect(await readBook(clocked.sql, couponId)).toEqual(after);
    expect(await new PostgresStatsStore(clocked.database).read({ couponId, type: null }, farMs)).toMatchObject({
      value: await countedStats(clocked.sql, couponId),
    });
  });

  test("and have expired are deleted, too, and leave no stock a second time", async () => {
    const couponId = await newBook();
    await upload({ couponId }, ["over-1", "over-2"], { expiresAt: later(1), maxHolders: 3 });
    await clocked.setClock(later(1));
    await expireCodes(clocked.sql);
    expect(await readBook(clocked.sql, couponId)).toMatchObject({ quantity: 0 });
    expect(await deleted({ couponId }, { codes: ["over-1"] })).toMatchObject({ deletedCount: 1 });
    expect(await readBook(clocked.sql, couponId)).toMatchObject({ quantity: 0 });
    await clocked.setClock(noon);
  });

  test("are found as the book tells codes apart", async () => {
    const couponId = await insertBook(clocked.sql, noon, { exactCodes: true });
    await clocked.sql`INSERT INTO codes (coupon_id, code, code_key, pick_key, created_at) VALUES (${couponId}, 'Ab-1', '-Ab-1', 1, ${noon})`;
    await clocked.sql`UPDATE coupons SET quantity = 1, code_total = 1 WHERE id = ${couponId}`;
    expect(await deleted({ couponId }, { codes: ["ab1", "Ab-1"] })).toMatchObject({
      outcomes: ["NOT_FOUND", "DELETED"],
    });
  });

  test("can be added again at once, to another coupon, too", async () => {
    const [couponId, other] = [await newBook(), await newBook()];
    await upload({ couponId }, ["again-1"]);
    expect(await upload({ couponId: other }, ["again-1"])).toMatchObject({ addedCount: 0 });
    await deleted({ couponId }, { codes: ["again-1"] });
    expect(await upload({ couponId: other }, ["again-1"])).toMatchObject({ addedCount: 1 });
    expect(await issue(other)).toEqual(["again-1"]);
  });

  test("are deleted once for one request id", async () => {
    const couponId = await newBook();
    await upload({ couponId }, ["once-1"]);
    const request = { method: "DeleteCodes", requestId: randomUUID(), inputHash: new Uint8Array([1]) };
    const first = await deleted({ couponId }, { codes: ["once-1"] }, { request });
    await upload({ couponId }, ["once-1"]);
    expect(await deleted({ couponId }, { codes: ["once-1"] }, { request })).toEqual(first);
    expect(await textsOf(couponId)).toEqual(["once-1"]);
    const other = { ...request, inputHash: new Uint8Array([2]) };
    expect(await tryToDelete({ couponId }, { codes: ["once-1"] }, { request: other })).toMatchObject({
      reason: "REQUEST_ID_REUSED",
    });
  });

  test.for([
    ["COUPON_NOT_FOUND", async () => ({ couponId: randomUUID() })],
    ["COUPON_NOT_FOUND", async () => ({ couponId: await insertBook(clocked.sql, noon, { deletedAt: noon }) })],
    ["COUPON_NOT_FOUND", async () => ({ type: "MEGADEAL" as const })],
    ["NOT_A_CODE_BOOK", async () => ({ couponId: await insertBook(clocked.sql, noon, { isCodeBook: false }) })],
  ] as const)("are refused with %s where there is no such book", async ([reason, target]) => {
    expect(await tryToDelete(await target(), { codes: ["x"] })).toMatchObject({ reason });
  });
});

describe("what came by one upload", () => {
  test("is deleted in steps; what is taken stays, and so do the codes of others between them", async () => {
    const couponId = await newBook();
    await upload({ couponId }, namesOf("before", 3));
    const [one, two] = await Promise.all([
      upload({ couponId }, namesOf("mine", 40)),
      upload({ couponId }, namesOf("theirs", 40)),
    ]);
    // As when two were inserted at the same moment: by turns.
    await clocked.sql`
      UPDATE code_sources SET first_code_id = (SELECT min(first_code_id) FROM code_sources WHERE coupon_id = ${couponId}),
        last_code_id = (SELECT max(last_code_id) FROM code_sources WHERE coupon_id = ${couponId})
      WHERE id IN (${one.uploadId as string}, ${two.uploadId as string})`;
    const [{ id }] = (await clocked.sql`SELECT id FROM codes WHERE code = 'mine-7'`) as [{ id: string }];
    expect(await issue(couponId, 1, Number(id))).toEqual(["mine-7"]);
    const first = await deleted({ couponId }, ofUpload(one.uploadId as string), { mostLooked: 10 });
    expect(first.next).not.toBeNull();
    // From the beginning again, as after a call whose answer was lost.
    const rest = await deleteAll(couponId, (after) => ofUpload(one.uploadId as string, after), 10);
    expect(first.deletedCount + rest.deletedCount).toBe(39);
    expect(rest.takenCount).toBe(1);
    expect((await textsOf(couponId)).sort()).toEqual(
      [...namesOf("before", 3), "mine-7", ...namesOf("theirs", 40)].sort(),
    );
    expect(await readBook(clocked.sql, couponId)).toMatchObject({ quantity: 44, codeTotal: 83, issuedCount: 1 });
    const events = (await storedEvents(clocked.sql, couponId)).filter(([kind]) => kind === "CODES_DELETED");
    expect(events.map(([, detail]) => (detail as { uploadId: string }).uploadId)).toEqual(
      events.map(() => one.uploadId),
    );
    // Once all is gone it is still known, and nothing happens.
    const revision = (await readBook(clocked.sql, couponId)).revision;
    expect(await deleteAll(couponId, (after) => ofUpload(one.uploadId as string, after), 1_000)).toEqual({
      ...{ deletedCount: 0, takenCount: 1, steps: 1 },
    });
    expect((await readBook(clocked.sql, couponId)).revision).toBe(revision);
    // What comes back to the stock can be deleted then.
    await clocked.sql`UPDATE codes SET holder_count = 0 WHERE code = 'mine-7'`;
    await clocked.sql`UPDATE coupons SET issued_count = 0, issued_total = 0 WHERE id = ${couponId}`;
    await clocked.sql`DELETE FROM user_coupons WHERE coupon_id = ${couponId}`;
    expect(await deleted({ couponId }, ofUpload(one.uploadId as string))).toMatchObject({ deletedCount: 1 });
  });

  test("has no identity where nothing was added, where an earlier release added it, or in another coupon", async () => {
    const [couponId, other] = [await newBook(), await newBook()];
    const { uploadId } = await upload({ couponId }, ["identity-1"]);
    expect((await upload({ couponId }, ["identity-1"])).uploadId).toBeUndefined();
    for (const id of [randomUUID(), uploadId as string]) {
      expect(await tryToDelete({ couponId: other }, ofUpload(id))).toMatchObject({ reason: "CODE_UPLOAD_NOT_FOUND" });
      expect(await tryToDelete({ couponId: other }, ofJob(id))).toMatchObject({ reason: "CODE_JOB_NOT_FOUND" });
    }
    // A job is no upload, and the other way round.
    expect(await tryToDelete({ couponId }, ofJob(uploadId as string))).toMatchObject({ reason: "CODE_JOB_NOT_FOUND" });
    await clocked.sql`UPDATE codes SET source_id = NULL WHERE coupon_id = ${couponId}`;
    expect(await deleted({ couponId }, ofUpload(uploadId as string))).toMatchObject({ deletedCount: 0, next: null });
    expect(await deleted({ couponId }, { codes: ["identity-1"] })).toMatchObject({ deletedCount: 1 });
  });

  test("of a type is deleted from its pool", async () => {
    const { couponId, uploadId } = await upload({ type: "STANDARD" }, namesOf("pool", 5), { expiresAt: later(9e6) });
    expect(await deleted({ type: "STANDARD" }, ofUpload(uploadId as string))).toMatchObject({
      couponId,
      deletedCount: 5,
    });
    expect(await readBook(clocked.sql, couponId)).toMatchObject({ quantity: 0 });
  });

  test("is deleted whole however large it is, each step by itself", { timeout: 300_000 }, async () => {
    const couponId = await newBook();
    const id = randomUUID();
    const { sql } = clocked;
    await sql`
      INSERT INTO codes (coupon_id, code, code_key, pick_key, created_at, source_id)
      SELECT ${couponId}, 'LARGE' || n, 'LARGE' || n, n, ${noon}, ${id} FROM generate_series(1, ${largeCount}::int) n`;
    await sql`
      INSERT INTO code_sources SELECT ${id}, ${couponId}, min(id), max(id) FROM codes WHERE source_id = ${id}`;
    await sql`UPDATE coupons SET quantity = ${largeCount}, code_total = ${largeCount} WHERE id = ${couponId}`;
    const startedAt = performance.now();
    const total = await deleteAll(couponId, (after) => ofUpload(id, after));
    const ms = Math.round(performance.now() - startedAt);
    if (largeCount > 100_000) process.stdout.write(`${largeCount} codes: ${ms} ms in ${total.steps} steps\n`);
    expect(total).toMatchObject({ deletedCount: largeCount, takenCount: 0 });
    expect(total.steps).toBeGreaterThan(1);
    expect(await textsOf(couponId)).toEqual([]);
    expect(await readBook(sql, couponId)).toMatchObject({ quantity: 0, codeTotal: largeCount });
  });

  test("is deleted while it is issued: each code is issued or deleted, and none is both", async () => {
    const couponId = await newBook();
    const count = 400;
    const { uploadId } = await upload({ couponId }, namesOf("race", count));
    // Fewer than there are, and some before: there is something to delete, and something that is taken, whoever is faster.
    const early = await issue(couponId, 5);
    const issuing = Promise.all(
      Array.from({ length: 20 }, async () => {
        const got: string[] = [];
        for (let n = 0; n < 3; n++) got.push(...(await issue(couponId, 5)));
        return got.filter((code) => code !== "SOLD_OUT");
      }),
    );
    const deletions = await Promise.all(
      [1, 2].map(() => deleteAll(couponId, (after) => ofUpload(uploadId as string, after), 20)),
    );
    const issued = [...early, ...(await issuing).flat()];
    const deletedCount = deletions.reduce((sum, one) => sum + one.deletedCount, 0);
    const left = await clocked.sql`SELECT code, holder_count FROM codes WHERE coupon_id = ${couponId}`;
    expect(new Set(issued).size).toBe(issued.length);
    expect(left.map(({ code }) => code).sort()).toEqual(issued.sort());
    expect(left.every((one) => one.holder_count === 1)).toBe(true);
    expect(issued.length + deletedCount).toBe(count);
    expect(await miscounted(clocked.sql)).toEqual([]);
  });
});
