import { randomUUID } from "node:crypto";
import { create } from "@bufbuild/protobuf";
import { timestampFromDate } from "@bufbuild/protobuf/wkt";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import {
  CodeLineSchema,
  LineProblem,
  UploadCodesRequestSchema,
  type UploadCodesResponse,
} from "../../gen/coupon/v1/catalog_service_pb.js";
import { CouponType } from "../../gen/coupon/v1/coupon_pb.js";
import { codeKey } from "../../src/domain/code.js";
import { Refusal } from "../../src/domain/refusal.js";
import { CodeExpirer } from "../../src/jobs/code-expirer.js";
import { uploadCodes } from "../../src/services/catalog/upload-codes.js";
import { PostgresCodeStore } from "../../src/storage/postgres/codes/code-store.js";
import { PostgresIssueStore } from "../../src/storage/postgres/issuing/issue-store.js";
import { PostgresTargetStore } from "../../src/storage/postgres/issuing/target-store.js";
import { callContext } from "../support/call-context.js";
import { until } from "../support/until.js";
import { type ClockedDatabase, openClockedDatabase } from "./clocked-database.js";
import { allCodesOf, expectStocked, insertBook, readBook, storedEvents } from "./code-world.js";

const noon = new Date("2026-11-21T12:00:00.000Z");
const later = (ms: number) => new Date(noon.getTime() + ms);
const farMs = Number.POSITIVE_INFINITY;

let clocked: ClockedDatabase;
let store: PostgresCodeStore;
let renewed: string[];

beforeAll(async () => {
  clocked = await openClockedDatabase(noon);
  store = new PostgresCodeStore(clocked.database);
});
beforeEach(async () => {
  renewed = [];
  await clocked.setClock(noon);
});
afterAll(() => clocked?.close());

type Line = Parameters<typeof create<typeof CodeLineSchema>>[1];
type Target = { couponId: string } | { type: CouponType };

async function upload(target: Target, lines: Line[], requestId = ""): Promise<UploadCodesResponse | Refusal> {
  const handler = uploadCodes(store, async (couponId) => void renewed.push(couponId));
  const request = create(UploadCodesRequestSchema, {
    target: "type" in target ? { case: "type", value: target.type } : { case: "couponId", value: target.couponId },
    lines: lines.map((line) => create(CodeLineSchema, line)),
    requestId,
  });
  return await handler(request, callContext(Date.now() + 30_000));
}

async function uploaded(target: Target, lines: Line[], requestId = ""): Promise<UploadCodesResponse> {
  const answer = await upload(target, lines, requestId);
  if (answer instanceof Refusal) throw new Error(answer.reason);
  return answer;
}

const codesOf = (prefix: string, count: number, from = 0): { code: string }[] =>
  Array.from({ length: count }, (_, n) => ({ code: `${prefix}-${from + n}` }));

describe("an upload", () => {
  test("adds the good lines, reports the others, and raises the stock by the seats added", async () => {
    const couponId = await insertBook(clocked.sql, noon);
    const answer = await uploaded({ couponId }, [
      { code: "one" },
      { code: "ONE" },
      { code: "two", terms: { maxHolders: 5 } },
      { code: "" },
      { code: "three", terms: { maxUses: 0 } },
    ]);
    expect(answer).toMatchObject({ couponId, addedCount: 2, duplicateCount: 1, invalidCount: 2 });
    expect(answer.rejectedLines.map(({ line, problem, message }) => [line, LineProblem[problem], message])).toEqual([
      [2, "DUPLICATE", ""],
      [4, "INVALID", "code: is required"],
      [5, "INVALID", "terms.max_uses: must be from 1 to 1000"],
    ]);
    expect(await readBook(clocked.sql, couponId)).toEqual({ quantity: 6, codeTotal: 2, revision: 2, issuedCount: 0 });
    expect(await storedEvents(clocked.sql, couponId)).toEqual([
      ["CODES_UPLOADED", { uploadId: answer.uploadId, codeCount: 2, placeCount: 6 }],
    ]);
    expect(renewed).toEqual([couponId]);
    await expectStocked(clocked.sql);
  });

  test("keeps the terms of each line", async () => {
    const couponId = await insertBook(clocked.sql, noon);
    const discount = { kind: { case: "fixedAmount" as const, value: { currencyCode: "USD", minorUnits: 10n ** 15n } } };
    const expireTime = timestampFromDate(later(5_001));
    await uploaded({ couponId }, [
      { code: "plain" },
      { code: "rich", terms: { discount, expireTime, maxUses: 7, maxHolders: 1_000_000 } },
    ]);
    const { rows } = await store.list(allCodesOf(couponId), { size: 10, before: null }, farMs);
    expect(rows.map(({ code }) => code)).toMatchObject([
      { code: "plain", discount: null, expiresAt: null, maxUses: null, maxHolders: 1, createdAt: noon },
      {
        ...{ code: "rich", expiresAt: later(5_001), maxUses: 7, maxHolders: 1_000_000 },
        discount: {
          kind: { case: "fixedAmount", amount: { currencyCode: "USD", minorUnits: 10 ** 15 } },
          maximumAmount: null,
          minimumOrderAmount: null,
        },
      },
    ]);
  });

  test("of a file of 5,000 lines with ten bad ones adds the rest; the same again changes nothing", async () => {
    const couponId = await insertBook(clocked.sql, noon);
    const lines: Line[] = codesOf(randomUUID(), 5_000);
    for (let n = 0; n < 10; n++) lines[n * 499] = { code: `bad\t${n}` };
    const answer = await uploaded({ couponId }, lines, `r-${couponId}`);
    expect(answer).toMatchObject({ addedCount: 4_990, duplicateCount: 0, invalidCount: 10 });
    expect(answer.rejectedLines.map(({ line }) => line)).toEqual(Array.from({ length: 10 }, (_, n) => n * 499 + 1));

    const again = await uploaded({ couponId }, lines);
    expect(again).toMatchObject({ addedCount: 0, duplicateCount: 4_990, invalidCount: 10 });
    expect(again.rejectedLines.map(({ line }) => line)).toEqual(Array.from({ length: 5_000 }, (_, n) => n + 1));
    expect(await readBook(clocked.sql, couponId)).toMatchObject({ quantity: 4_990, codeTotal: 4_990, revision: 2 });
    expect((await storedEvents(clocked.sql, couponId)).length).toBe(1);
    expect(renewed).toEqual([couponId]);

    expect(await uploaded({ couponId }, lines, `r-${couponId}`)).toEqual(answer);
  });

  test("lists its codes in the order of its lines", async () => {
    const couponId = await insertBook(clocked.sql, noon);
    const lines = ["z", "a", "m", "B", "y"].map((letter) => ({ code: `${letter}-order` }));
    await uploaded({ couponId }, lines);
    const first = await store.list(allCodesOf(couponId), { size: 3, before: null }, farMs);
    expect([first.rows.map(({ code }) => code.code), first.next !== null]).toEqual([
      ["z-order", "a-order", "m-order"],
      true,
    ]);
    const before = String(first.rows.at(-1)?.code.id);
    const next = await store.list(allCodesOf(couponId), { size: 3, before }, farMs);
    expect([next.rows.map(({ code }) => code.code), next.next !== null]).toEqual([["B-order", "y-order"], false]);
  });

  test("never changes a code that exists, in this coupon or another one", async () => {
    const [mine, others] = [await insertBook(clocked.sql, noon), await insertBook(clocked.sql, noon)];
    await uploaded({ couponId: others }, [{ code: "Summer-1", terms: { maxHolders: 3 } }]);
    const answer = await uploaded({ couponId: mine }, [{ code: "SUMMER 1", terms: { maxHolders: 9 } }]);
    expect(answer).toMatchObject({ addedCount: 0, duplicateCount: 1 });
    const [row] = await clocked.sql`SELECT coupon_id, code, max_holders FROM codes WHERE code_key = 'SUMMER1'`;
    expect(row).toEqual({ coupon_id: others, code: "Summer-1", max_holders: 3 });
    expect(await readBook(clocked.sql, mine)).toMatchObject({ quantity: 0, revision: 1 });
  });

  test("is refused for what is no code book, unknown or deleted", async () => {
    const plain = await insertBook(clocked.sql, noon, { isCodeBook: false });
    const deleted = await insertBook(clocked.sql, noon, { deletedAt: noon });
    const reasonOf = async (couponId: string) => ((await upload({ couponId }, [{ code: "a" }])) as Refusal).reason;
    expect(await reasonOf(plain)).toBe("NOT_A_CODE_BOOK");
    expect(await reasonOf(deleted)).toBe("COUPON_NOT_FOUND");
    expect(await reasonOf(randomUUID())).toBe("COUPON_NOT_FOUND");
  });

  test("is undone when the coupon is deleted while it waits", async () => {
    const couponId = await insertBook(clocked.sql, noon);
    let waiting: Promise<UploadCodesResponse | Refusal> | undefined;
    await clocked.sql.begin(async (tx) => {
      await tx`UPDATE coupons SET deleted_at = ${noon} WHERE id = ${couponId}`;
      waiting = upload({ couponId }, [{ code: "too-late" }]);
      await untilWaiting(1);
    });
    expect((await waiting) as Refusal).toMatchObject({ reason: "COUPON_NOT_FOUND" });
    expect(await clocked.sql`SELECT FROM codes WHERE coupon_id = ${couponId}`).toHaveLength(0);
  });

  test("does not hold up issuing while it inserts", async () => {
    const couponId = await insertBook(clocked.sql, noon);
    await uploaded({ couponId }, [{ code: "issued-meanwhile" }]);
    let waiting: Promise<UploadCodesResponse> | undefined;
    await clocked.sql
      .begin(async (tx) => {
        // Somebody who is about to add the same code holds up the upload while it inserts.
        await tx`
        INSERT INTO codes (coupon_id, code, code_key, pick_key, created_at)
        VALUES (${couponId}, 'x', 'HELDUP', 1, ${noon})`;
        waiting = uploaded({ couponId }, [{ code: "held-up" }]);
        await untilWaiting(1);
        const request = { couponId, userId: "u", userCouponId: randomUUID(), requestId: "" };
        expect((await new PostgresIssueStore(clocked.database).issueBatch([request]))[0]?.outcome).toBe("ISSUED");
        throw new Error("rolled back");
      })
      .catch((error: Error) => expect(error.message).toBe("rolled back"));
    expect(await waiting).toMatchObject({ addedCount: 1 });
    await expectStocked(clocked.sql);
  });

  test("with a request id is done once, though three come at once; with other lines it is refused", async () => {
    const couponId = await insertBook(clocked.sql, noon);
    const lines = [...codesOf(`once-${couponId}`, 2_500), { code: "" }];
    const requestId = randomUUID();
    const said = await Promise.all([1, 2, 3].map(() => uploaded({ couponId }, lines, requestId)));
    expect(said[0]).toMatchObject({ addedCount: 2_500, duplicateCount: 0, invalidCount: 1 });
    expect(said.slice(1)).toEqual([said[0], said[0]]);
    await clocked.sql`UPDATE coupons SET deleted_at = ${noon} WHERE id = ${couponId}`;
    expect(await uploaded({ couponId }, lines, requestId)).toEqual(said[0]);
    for (const other of [lines.slice(1), [...lines, { code: "" }], [{ code: "y" }, ...lines.slice(1)]]) {
      expect(await upload({ couponId }, other, requestId)).toMatchObject({ reason: "REQUEST_ID_REUSED" });
    }
    expect(await readBook(clocked.sql, couponId)).toMatchObject({ quantity: 2_500, revision: 2 });
  });

  test("and another with the same codes the other way round end in duplicates, and not in a deadlock", async () => {
    const books = await Promise.all([1, 2].map(() => insertBook(clocked.sql, noon)));
    const id = randomUUID();
    const [first, second, other1, other2] = ["1", "2", "3", "4"].map((begin) => ({ code: `${begin} ${id}` }));
    const files = [
      [first, other1, second],
      [second, other2, first],
    ] as { code: string }[][];
    // Both have begun to insert, and neither has ended.
    let running: Promise<UploadCodesResponse>[] = [];
    const others = clocked.sql.begin(async (tx) => {
      for (const one of [other1, other2]) {
        const { code } = one as { code: string };
        await tx`
          INSERT INTO codes (coupon_id, code, code_key, max_holders, pick_key, created_at)
          VALUES (${books[0] as string}, ${code}, ${codeKey(code, false)}, 1, 1, ${noon})`;
      }
      running = files.map((file, n) => uploaded({ couponId: books[n] as string }, file));
      for (const one of running) one.catch(() => {});
      await untilWaiting(running.length);
      throw new Error("they are gone");
    });
    await expect(others).rejects.toThrow("they are gone");
    expect((await Promise.all(running)).map((one) => one.addedCount).sort()).toEqual([1, 3]);
  });

  test("and others with overlapping files, each in another order, add each code once", async () => {
    const books = await Promise.all([1, 2].map(() => insertBook(clocked.sql, noon)));
    const lines = codesOf(`overlap-${books[0]}`, 3_000);
    const files = [
      lines.slice(0, 2_000),
      lines.slice(1_000).reverse(),
      lines.filter((_, n) => n % 2 === 0),
      lines.toReversed(),
    ];
    const said = await Promise.all(files.map((file, n) => uploaded({ couponId: books[n % 2]! }, file)));
    expect(said.reduce((sum, one) => sum + one.addedCount, 0)).toBe(3_000);
    for (const [n, one] of said.entries()) expect(one.addedCount + one.duplicateCount).toBe(files[n]!.length);
    await expectStocked(clocked.sql);
  });
});

test("a code that was purged and added to another book is found there, also where it was looked up before", async () => {
  const [first, second] = [await insertBook(clocked.sql, noon), await insertBook(clocked.sql, noon)];
  const targets = new PostgresTargetStore(clocked.database);
  const bookOf = async () => (await targets.findCode("again-1", farMs))?.couponId;
  await uploaded({ couponId: first }, codesOf("again", 1, 1));
  expect(await bookOf()).toBe(first);
  await clocked.sql`UPDATE coupons SET quantity = 0, code_total = 0 WHERE id = ${first}`;
  await clocked.sql`DELETE FROM codes WHERE coupon_id = ${first}`;
  await uploaded({ couponId: second }, codesOf("again", 1, 1));
  await until("it is found in the second one", async () => (await bookOf()) === second);
});

describe("the pool of a type", () => {
  const terms = (ms: number) => ({
    discount: { kind: { case: "percentageBasisPoints" as const, value: 500 } },
    expireTime: timestampFromDate(later(3_600_000 + ms)),
  });
  const target = { type: CouponType.MEGADEAL };

  test("is made once, though eight upload for it at once", async () => {
    const said = await Promise.all(
      Array.from({ length: 8 }, (_, n) =>
        uploaded(target, [{ code: `pool-${n}`, terms: terms(1_000) }, { code: `none-${n}` }]),
      ),
    );
    const couponId = said[0]!.couponId;
    expect(new Set(said.map((one) => one.couponId))).toEqual(new Set([couponId]));
    expect(said.every((one) => one.addedCount === 1 && one.invalidCount === 1)).toBe(true);
    const [row] = await clocked.sql`SELECT * FROM coupons WHERE is_pool`;
    expect(row).toMatchObject({
      ...{ id: couponId, name: "MEGADEAL codes", type: "MEGADEAL", is_code_book: true, exact_codes: false },
      ...{ starts_at: noon, expires_at: new Date("9999-12-31T23:59:59.999Z"), percentage_basis_points: 1 },
      ...{ max_per_user: 100, throttle_concurrent: 5, throttle_per_second: 10, throttle_wait_ms: 10_000 },
    });
    expect(await readBook(clocked.sql, couponId)).toMatchObject({ quantity: 8, codeTotal: 8, revision: 9 });
    const kinds = (await storedEvents(clocked.sql, couponId)).map(([kind]) => kind);
    expect(kinds).toEqual(["COUPON_CREATED", ...Array.from({ length: 8 }, () => "CODES_UPLOADED")]);
    await expectStocked(clocked.sql);
  });

  test("gives out what expires first", async () => {
    const { couponId } = await uploaded({ type: CouponType.STANDARD }, [
      { code: "third", terms: terms(9_000) },
      { code: "first", terms: terms(2_000) },
      { code: "second", terms: terms(5_000) },
    ]);
    const requests = ["a", "b"].map((userId) => ({ couponId, userId, userCouponId: randomUUID(), requestId: "" }));
    const results = await new PostgresIssueStore(clocked.database).issueBatch(requests);
    expect(results.map((one) => one.outcome === "ISSUED" && one.userCoupon.code).sort()).toEqual(["first", "second"]);
  });

  test("that was deleted is followed by a new one", async () => {
    const type = { type: CouponType.FREE };
    const first = await uploaded(type, [{ code: "old", terms: terms(1_000) }]);
    await clocked.sql`UPDATE coupons SET deleted_at = ${noon} WHERE id = ${first.couponId}`;
    const second = await uploaded(type, [{ code: "new", terms: terms(1_000) }]);
    expect(second).toMatchObject({ addedCount: 1 });
    expect(second.couponId).not.toBe(first.couponId);
    expect((await uploaded(type, [{ code: "newer", terms: terms(1_000) }])).couponId).toBe(second.couponId);
  });
});

describe("expiring", () => {
  const expiring = (code: string, ms: number, maxHolders = 1): Line => ({
    code,
    terms: { expireTime: timestampFromDate(later(ms)), maxHolders },
  });

  test("takes the free seats of codes that have expired out of stock, once, whoever does it", async () => {
    const [first, second] = [await insertBook(clocked.sql, noon), await insertBook(clocked.sql, noon)];
    await uploaded({ couponId: first }, [
      expiring("r-half", 1_000, 4),
      expiring("r-free", 1_000),
      expiring("r-soon", 1_001),
      { code: "r-plain" },
    ]);
    await uploaded({ couponId: second }, [expiring("r-full", 500), { code: "r-other" }]);
    const [half, full] =
      await clocked.sql`SELECT id, coupon_id FROM codes WHERE code IN ('r-half', 'r-full') ORDER BY code DESC`;
    const requests = [half, full].map((row) => ({
      ...{ couponId: row?.coupon_id as string, codeId: Number(row?.id), userId: "u" },
      ...{ userCouponId: randomUUID(), requestId: "" },
    }));
    const results = await new PostgresIssueStore(clocked.database).issueBatch(requests);
    expect(results.map(({ outcome }) => outcome)).toEqual(["ISSUED", "ISSUED"]);
    expect(await store.expire(100)).toBeNull();

    await clocked.setClock(later(1_000));
    let expiries: Promise<({ couponIds: readonly string[] } | null)[]> | undefined;
    await clocked.sql.begin(async (tx) => {
      await tx`SELECT FROM coupons WHERE id = ANY (${[first, second]}) FOR UPDATE`;
      // All three have seen the same codes when the first of them gets on.
      expiries = Promise.all([1, 2, 3].map(() => store.expire(100)));
      await untilWaiting(3);
    });
    const said = (await expiries) ?? [];
    expect(said.flatMap((one) => one?.couponIds ?? [])).toEqual([first]);
    expect(await readBook(clocked.sql, first)).toEqual({ quantity: 3, codeTotal: 4, revision: 3, issuedCount: 1 });
    // Nothing of it was in stock any more, so nothing has changed.
    expect(await readBook(clocked.sql, second)).toEqual({ quantity: 2, codeTotal: 2, revision: 2, issuedCount: 1 });
    expect((await storedEvents(clocked.sql, first)).at(-1)).toEqual(["CODES_EXPIRED", { codeCount: 2, placeCount: 4 }]);
    await expectStocked(clocked.sql);
    const ended = await store.list(allCodesOf(first), { size: 10, before: null }, farMs);
    expect(ended.rows.map(({ code, holders }) => [code.holderCount, holders.length])).toEqual([
      [1, 1],
      [0, 0],
      [0, 0],
      [0, 0],
    ]);
    expect(await store.expire(100)).toBeNull();
  });

  test("goes in batches to the end, and drops the gate's copy of each coupon whose stock has changed", async () => {
    const couponId = await insertBook(clocked.sql, noon);
    await uploaded(
      { couponId },
      Array.from({ length: 2_500 }, (_, n) => expiring(`batch-${n}`, 2_000 + (n % 7))),
    );
    await clocked.setClock(later(3_000));
    const forgotten: string[] = [];
    const keeper = { invalidate: async (id: string) => void forgotten.push(id) };
    await new CodeExpirer(store, keeper).run();
    expect(new Set(forgotten)).toContain(couponId);
    expect(await readBook(clocked.sql, couponId)).toMatchObject({ quantity: 0, codeTotal: 2_500 });
    await expectStocked(clocked.sql);
  });
});

describe("listing", () => {
  test("shows the first ten who hold a code, and whether all have used it", async () => {
    const couponId = await insertBook(clocked.sql, noon);
    await uploaded({ couponId }, [
      { code: "l-many", terms: { maxHolders: 12 } },
      { code: "l-one" },
      { code: "l-free" },
    ]);
    const ids = await clocked.sql`SELECT id FROM codes WHERE coupon_id = ${couponId} ORDER BY id`;
    const users = Array.from({ length: 13 }, (_, n) => `user-${n}`);
    const issues = new PostgresIssueStore(clocked.database);
    for (const [n, userId] of users.entries()) {
      const codeId = Number(ids[n < 12 ? 0 : 1]?.id);
      const userCouponId = `00000000-0000-7000-8000-${String(n).padStart(12, "0")}`;
      const [result] = await issues.issueBatch([{ couponId, codeId, userId, userCouponId, requestId: "" }]);
      expect(result?.outcome).toBe("ISSUED");
    }
    const list = async () => (await store.list(allCodesOf(couponId), { size: 10, before: null }, farMs)).rows;
    const used = (filter: string) =>
      clocked.sql.unsafe(
        `UPDATE user_coupons SET use_count = 1, place_count = 1 WHERE coupon_id = '${couponId}' AND ${filter}`,
      );
    const usedUp = async () => (await list()).map(({ code }) => code.usedUp);

    const rows = await list();
    expect(rows.map(({ holders }) => holders.map(({ userId }) => userId))).toEqual([
      users.slice(0, 10),
      [users[12]],
      [],
    ]);
    expect(await usedUp()).toEqual([false, false, false]);
    await used("user_id <> 'user-11'");
    expect(await usedUp()).toEqual([false, true, false]);
    await used("true");
    expect(await usedUp()).toEqual([true, true, false]);
    await clocked.sql`UPDATE user_coupons SET deleted_at = ${noon}, slot = NULL WHERE user_id = 'user-0'`;
    expect((await list())[0]?.holders.map(({ userId }) => userId)).toEqual(users.slice(1, 11));
    // Nobody holds it any more, and it went not back: nobody can get it or use it.
    await clocked.sql`UPDATE user_coupons SET use_count = 0, deleted_at = ${noon}, slot = NULL WHERE user_id = 'user-12'`;
    expect((await list())[1]).toMatchObject({ code: { usedUp: true, holderCount: 1 }, holders: [] });
  });
});

async function untilWaiting(count: number): Promise<void> {
  await until("somebody waits for a lock", async () => {
    const [row] = await clocked.sql`
      SELECT count(*)::int AS n FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'`;
    return row?.n === count;
  });
}
