import { randomUUID } from "node:crypto";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import type { Discount } from "../../src/domain/coupon.js";
import type { IssueResult } from "../../src/storage/ports/issues.js";
import { PostgresIssueStore } from "../../src/storage/postgres/issuing/issue-store.js";
import { PostgresUsageStore } from "../../src/storage/postgres/using/usage-store.js";
import {
  type ClockedDatabase,
  type CouponFacts,
  insertCoupon,
  openClockedDatabase,
  openCoupon,
} from "./clocked-database.js";
import { type CodeFacts, expireCodes, insertCodes } from "./codes-world.js";
import { type Held, lockRequestOf, useRequestOf, versionOf } from "./usage-world.js";

const noon = new Date("2030-06-01T12:00:00.000Z");
const later = (ms: number) => new Date(noon.getTime() + ms);
const farMs = Date.now() + 3_600_000;

let clocked: ClockedDatabase;
let issues: PostgresIssueStore;
let usages: PostgresUsageStore;

beforeAll(async () => {
  clocked = await openClockedDatabase(noon);
  issues = new PostgresIssueStore(clocked.database);
  usages = new PostgresUsageStore(clocked.database);
});
beforeEach(() => clocked.setClock(noon));
afterAll(() => clocked?.close());

/** Codes are picked in the order in which they stand here. */
async function newBook(codes: readonly CodeFacts[], changed: Partial<CouponFacts> = {}) {
  const couponId = await insertCoupon(clocked.sql, openCoupon(noon, { quantity: 0, ...changed }));
  return { couponId, codeIds: await insertCodes(clocked.sql, couponId, codes) };
}
/** Codes of their own in each test, for a code exists once in all books. */
const named = (name: string, test: string) => `${name}-${test}`;

async function issue(couponId: string, userId: string, codeId?: number): Promise<IssueResult> {
  const request = {
    couponId,
    userId,
    requestId: "",
    userCouponId: randomUUID(),
    ...(codeId !== undefined && { codeId }),
  };
  return (await issues.issueBatch([request]))[0] as IssueResult;
}
function heldOf(result: IssueResult): Held {
  if (result.outcome !== "ISSUED") throw new Error(JSON.stringify(result));
  const { id: userCouponId, couponId, userId } = result.userCoupon;
  return { userCouponId, couponId, userId };
}

describe("which code is issued", () => {
  const soon = later(1_000);
  const expired: CodeFacts = { code: "expired", expiresAt: soon };
  const good: CodeFacts = { code: "good" };
  test.for([
    { name: "the first in order", codes: [good, { code: "other" }], isIssued: "good" },
    { name: "none that has expired and is still in stock", codes: [expired, good], isIssued: "good" },
    { name: "none that has expired and is out of stock", codes: [expired, good], isExpired: true, isIssued: "good" },
    {
      name: "one that expires a millisecond later",
      codes: [{ code: "still", expiresAt: later(1_001) }, good],
      isIssued: "still",
    },
    { name: "nothing when all have expired", codes: [expired], isIssued: "SOLD_OUT" },
    {
      name: "not the one that was wanted, when it has expired",
      codes: [expired, good],
      wanted: 0,
      isIssued: "CODE_EXPIRED",
    },
    { name: "the one that was wanted", codes: [{ code: "other" }, good], wanted: 1, isIssued: "good" },
  ])("$name", async ({ name, codes, isExpired, wanted, isIssued }) => {
    const { couponId, codeIds } = await newBook(codes.map((one) => ({ ...one, code: named(one.code ?? "", name) })));
    await clocked.setClock(soon);
    if (isExpired) await expireCodes(clocked.sql);
    const result = await issue(couponId, "user", wanted === undefined ? undefined : codeIds[wanted]);
    const said = result.outcome === "ISSUED" ? result.userCoupon.code : result.outcome === "REFUSED" && result.reason;
    expect(said).toBe(isIssued === isIssued.toUpperCase() ? isIssued : named(isIssued, name));
  });

  test("a code of another book is not found", async () => {
    const { codeIds } = await newBook([{}]);
    const { couponId } = await newBook([{}]);
    expect(await issue(couponId, "user", codeIds[0])).toEqual({ outcome: "REFUSED", reason: "CODE_NOT_FOUND" });
  });
});

test("a user coupon has its code's own discount, uses and end, where the code has them", async () => {
  const discount: Discount = {
    kind: { case: "percentage", basisPoints: 4_200 },
    maximumAmount: null,
    minimumOrderAmount: { currencyCode: "EUR", minorUnits: 5 },
  };
  const { couponId, codeIds } = await newBook([{ maxUses: 7, expiresAt: later(2_000) }, {}], {
    validityAfterIssueMs: 9_000,
    maxUses: 3,
  });
  await clocked.sql`UPDATE codes SET discount = ${JSON.stringify(discount)}::text::jsonb WHERE id = ${codeIds[0] as number}`;
  const request = { couponId, userId: "first", userCouponId: randomUUID(), requestId: "" };
  // Sent again when nobody knows whether it was committed, it has the same.
  for (const again of [false, true])
    expect(await issues.issueBatch([request], again)).toMatchObject([
      { outcome: "ISSUED", userCoupon: { discount, maxUses: 7, validUntil: later(2_000) } },
    ]);
  expect(await issue(couponId, "second")).toMatchObject({
    userCoupon: { discount: null, maxUses: 3, validUntil: later(9_000) },
  });
});

describe("a code names, of the user coupons that have it,", () => {
  const code = "SHARED-CODE";
  let couponId: string;
  let mine: readonly [Held, Held];
  beforeEach(async () => {
    await clocked.sql`TRUNCATE coupons, user_coupons, codes, usages`;
    const facts = { maxPerUser: 2, validityAfterIssueMs: 60_000, maxUses: 2 };
    const book = await newBook([{ code, maxHolders: 9 }], facts);
    couponId = book.couponId;
    await issue(couponId, "somebody else");
    const first = heldOf(await issue(couponId, "me"));
    await clocked.setClock(later(1));
    mine = [first, heldOf(await issue(couponId, "me"))];
  });
  const found = async (userId: string, requestId = "", lockVersion = 0) => {
    const ids = await usages.findByCodes(userId, [{ userCouponId: "", lockVersion, code }], requestId, farMs);
    return ids[0]?.map((id) => mine.findIndex(({ userCouponId }) => userCouponId === id));
  };
  const use = async (held: Held, requestId: string) => {
    const [said] = await usages.useBatch([useRequestOf(held, { requestId })], { again: false, together: false });
    expect(said?.outcome).toBe("USED");
  };
  const lock = (held: Held, token: string) => usages.lockBatch([lockRequestOf(held, { token })], { together: false });

  test("those of the user alone, the earliest expiry first", async () => {
    expect(await found("me")).toEqual([0, 1]);
  });
  test("none for a user who holds none, though others do", async () => {
    expect(await found("nobody")).toEqual([]);
  });
  test("none that was deleted", async () => {
    await clocked.sql`UPDATE user_coupons SET deleted_at = ${noon}, slot = NULL WHERE id = ${mine[0].userCouponId}`;
    expect(await found("me")).toEqual([1]);
  });
  test("one that can be used before one that is locked", async () => {
    await lock(mine[0], "other");
    expect(await found("me")).toEqual([1, 0]);
  });
  test("the one whose lock the caller names", async () => {
    for (const [index, held] of [...mine.entries()].reverse()) {
      const [locked] = await lock(held, "other");
      expect(await found("me", "", versionOf(locked))).toEqual([index, 1 - index]);
    }
  });
  test("the one that this very request has locked", async () => {
    await lock(mine[1], "this");
    expect(await found("me", "this")).toEqual([1, 0]);
  });
  test("the one that this very request has used", async () => {
    await use(mine[1], "this");
    expect(await found("me", "this")).toEqual([1, 0]);
  });
});
