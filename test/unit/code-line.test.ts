import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { timestampFromDate } from "@bufbuild/protobuf/wkt";
import { describe, expect, test } from "vitest";
import { CodeLineSchema } from "../../gen/coupon/v1/catalog_service_pb.js";
import type { CodeTermsSchema } from "../../gen/coupon/v1/code_pb.js";
import { codeKey, codeKeys, codeStatus } from "../../src/domain/code.js";
import { type Coupon, typePoolDefinition } from "../../src/domain/coupon.js";
import { checkLines } from "../../src/services/codes/upload-lines.js";

const now = new Date("2026-11-21T12:00:00Z");
const later = new Date(now.getTime() + 1);
const book = { ...typePoolDefinition("FREE", now), isTypePool: false } as Coupon;
const typePool = { ...book, isTypePool: true };

type Terms = MessageInitShape<typeof CodeTermsSchema>;
const line = (code: string, terms?: Terms) => create(CodeLineSchema, { code, ...(terms && { terms }) });
const check = (lines: ReturnType<typeof line>[], of: Coupon = book) => checkLines(lines, of, now);
const usd = (minorUnits: bigint, currencyCode = "USD") => ({ currencyCode, minorUnits });
const percent = (value: number) => ({ kind: { case: "percentageBasisPoints" as const, value } });
const fixed = (amount: ReturnType<typeof usd>) => ({ kind: { case: "fixedAmount" as const, value: amount } });

describe("a line is checked on its own", () => {
  const good: [string, string, Terms | undefined][] = [
    ["one character", "a", undefined],
    ["64 characters", "x".repeat(64), undefined],
    ["blanks inside", "a b  c", undefined],
    ["any visible character", "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~1", undefined],
    ["no terms of its own", "a", {}],
    ["all terms at their least", "a", { discount: percent(1), maxUses: 1, maxHolders: 1 }],
    ["all terms at their most", "a", { discount: percent(10_000), maxUses: 1_000, maxHolders: 1_000_000 }],
    ["the largest amount", "a", { discount: fixed(usd(10n ** 15n)) }],
    ["an end that has not come", "a", { expireTime: timestampFromDate(later) }],
    ["the last end there is", "a", { expireTime: timestampFromDate(new Date("9999-12-31T23:59:59.999Z")) }],
  ];
  test.for(good)("%s", async ([, code, terms]) => {
    const { good: taken, rejected } = await check([line(code, terms)]);
    expect(rejected).toEqual([]);
    expect(taken).toMatchObject([{ line: 1, code }]);
  });

  const bad: [string, string, Terms | undefined, ...string[]][] = [
    ["no code", "", undefined, "code: is required"],
    ["65 characters", "x".repeat(65), undefined, "code: must have at most 64 characters"],
    ["a blank before", " a", undefined, "code: must be visible ASCII characters"],
    ["a blank behind", "a ", undefined, "code: must be visible ASCII characters"],
    ["a tab", "a\tb", undefined, "code: must be visible ASCII characters"],
    ["a line end", "a\n", undefined, "code: must be visible ASCII characters"],
    ["a NUL", "a\u0000b", undefined, "code: must be visible ASCII characters"],
    ["a DEL", "a\u007fb", undefined, "code: must be visible ASCII characters"],
    ["past ASCII", "é1", undefined, "code: must be visible ASCII characters"],
    ["no letter or digit", "--//", undefined, "code: must have a letter or a digit"],
    ["a discount of no kind", "a", { discount: {} }, "terms.discount.kind: is required"],
    ["0 basis points", "a", { discount: percent(0) }, "terms.discount.percentage_basis_points: must be from 1"],
    ["-1 basis points", "a", { discount: percent(-1) }, "terms.discount.percentage_basis_points: must be from 1"],
    ["10,001 basis points", "a", { discount: percent(10_001) }, "terms.discount.percentage_basis_points: must be"],
    ["an amount of nothing", "a", { discount: fixed(usd(0n)) }, "terms.discount.fixed_amount.minor_units: must be"],
    [
      "an amount past 10^15",
      "a",
      { discount: fixed(usd(10n ** 15n + 1n)) },
      "terms.discount.fixed_amount.minor_units: must be at most 10^15",
    ],
    [
      "an unknown currency",
      "a",
      { discount: fixed(usd(1n, "usd")) },
      "terms.discount.fixed_amount.currency_code: is not a known",
    ],
    [
      "a ceiling past 10^15",
      "a",
      { discount: { ...percent(1), maximumAmount: usd(2n ** 62n) } },
      "terms.discount.maximum_amount.minor_units: must be at most 10^15",
    ],
    [
      "a negative minimum",
      "a",
      { discount: { ...percent(1), minimumOrderAmount: usd(-1n) } },
      "terms.discount.minimum_order_amount.minor_units: must be at least 0",
    ],
    [
      "two currencies",
      "a",
      { discount: { ...percent(1), maximumAmount: usd(1n), minimumOrderAmount: usd(1n, "EUR") } },
      "terms.discount.minimum_order_amount.currency_code: must be USD",
    ],
    ["an end that has come", "a", { expireTime: timestampFromDate(now) }, "terms.expire_time: must be in the future"],
    ["an end in the year 1", "a", { expireTime: { seconds: -62135596800n } }, "terms.expire_time: must be from 1970"],
    ["nanos out of range", "a", { expireTime: { seconds: 4n * 10n ** 9n, nanos: -1 } }, "terms.expire_time: must be"],
    ["0 uses", "a", { maxUses: 0 }, "terms.max_uses: must be from 1 to 1000"],
    ["1,001 uses", "a", { maxUses: 1_001 }, "terms.max_uses: must be from 1 to 1000"],
    ["0 holders", "a", { maxHolders: 0 }, "terms.max_holders: must be from 1 to 1000000"],
    ["1,000,001 holders", "a", { maxHolders: 1_000_001 }, "terms.max_holders: must be from 1 to 1000000"],
    ["three things wrong", "", { maxUses: 0, maxHolders: -1 }, "code: ", "; terms.max_uses: ", "; terms.max_holders: "],
  ];
  test.for(bad)("%s", async ([, code, terms, ...said]) => {
    const { good: taken, rejected } = await check([line("first"), line(code, terms), line("last")]);
    expect(taken.map((one) => one.line)).toEqual([1, 3]);
    expect(rejected).toMatchObject([{ line: 2 }]);
    for (const part of said) expect(rejected[0]?.message).toContain(part);
  });

  test("one of a type pool needs a discount and an end of its own", async () => {
    const complete: Terms = { discount: percent(500), expireTime: timestampFromDate(later) };
    const { discount, expireTime } = complete;
    const lines = [
      line("a", complete),
      line("b"),
      line("c", { discount: discount! }),
      line("d", { expireTime: expireTime! }),
    ];
    const { good: taken, rejected } = await check(lines, typePool);
    expect(taken.map((one) => one.code)).toEqual(["a"]);
    expect(rejected.map(({ message }) => message?.match(/terms\.\w+/g))).toEqual([
      ["terms.discount", "terms.expire_time"],
      ["terms.expire_time"],
      ["terms.discount"],
    ]);
  });
});

describe("codes are the same", () => {
  test("without regard to case and separators, unless the book tells them apart; the first good line is taken", async () => {
    const lines = [line("ab-12 cd", { maxUses: 0 }), line("AB12CD"), line("ab.12_c-d"), line("AB12CE"), line("AB12CD")];
    const folded = await check(lines);
    expect(folded.good.map((one) => one.line)).toEqual([2, 4]);
    expect(folded.rejected.map((one) => [one.line, one.message !== null])).toEqual([
      [1, true],
      [3, false],
      [5, false],
    ]);
    const exact = await check(lines, { ...book, codeBook: { exactMatch: true } });
    expect(exact.good.map((one) => one.line)).toEqual([2, 3, 4]);
  });

  test("never in a book that tells them apart and one that does not", () => {
    const written = ["AB", "-AB", "=AB", "+AB", "/AB"];
    const exact = new Set(written.map((code) => codeKey(code, true)));
    expect(written.map((code) => codeKey(code, false)).filter((key) => exact.has(key))).toEqual([]);
    expect(codeKeys(" -AB ")).toEqual(["--AB", "AB"]);
  });
});

test("50,000 lines that are all wrong make an answer that clients take, and other work goes on", async () => {
  const worst = line("é", {
    discount: { ...percent(0), maximumAmount: usd(0n, "x"), minimumOrderAmount: usd(-1n, "y") },
  });
  let turns = 0;
  let checking = true;
  const count = () => {
    turns += 1;
    if (checking) setImmediate(count);
  };
  setImmediate(count);
  const { rejected } = await check(Array.from({ length: 50_000 }, () => worst));
  checking = false;
  expect(rejected.length).toBe(50_000);
  expect(rejected.every(({ message }) => message?.startsWith("code"))).toBe(true);
  // A line's number and problem take 12 bytes with their tags.
  const bytes = rejected.reduce((sum, { message }) => sum + 12 + (message?.length ?? 0), 0);
  expect(bytes).toBeLessThan(4 * 1024 * 1024);
  expect(turns).toBeGreaterThan(20);
});

describe("a code is", () => {
  const code = {
    ...{ id: 1, couponId: "", code: "a", createdAt: now, discount: null, maxUses: null },
    ...{ expiresAt: null as Date | null, maxHolders: 2, holderCount: 0, usedUp: false },
  };
  const coupon = { expiresAt: later };
  const rows: [string, string, Partial<typeof code>, { expiresAt: Date }][] = [
    ["FREE", "while one may still hold it", { holderCount: 1 }, coupon],
    ["FREE", "also when the one that holds it has used it", { holderCount: 1, usedUp: true }, coupon],
    ["ISSUED", "when all hold it that may", { holderCount: 2 }, coupon],
    ["USED", "when all of them have used it", { holderCount: 2, usedUp: true }, coupon],
    ["USED", "also when it has expired", { holderCount: 2, usedUp: true, expiresAt: now }, coupon],
    ["EXPIRED", "when its own end has come", { expiresAt: now }, coupon],
    ["EXPIRED", "when its coupon's end has come", { expiresAt: later }, { expiresAt: now }],
    ["EXPIRED", "when all hold it and its end has come", { holderCount: 2, expiresAt: now }, coupon],
    ["FREE", "while its end has not come", { expiresAt: later }, coupon],
  ];
  test.for(rows)("%s %s", ([status, , facts, ofCoupon]) => {
    expect(codeStatus({ ...code, ...facts }, ofCoupon, now)).toBe(status);
  });
});
