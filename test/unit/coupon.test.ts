import { describe, expect, test } from "vitest";
import {
  type Coupon,
  type CouponDraft,
  type CouponState,
  checkDefinition,
  couponState,
  type Discount,
  exhaustionOf,
  type Money,
  remainingCount,
  remainingUseCount,
} from "../../src/domain/coupon.js";
import { Refusal } from "../../src/domain/refusal.js";

const now = new Date("2030-06-01T12:00:00.000Z");
const at = (offsetMs: number) => new Date(now.getTime() + offsetMs);
const usd = (minorUnits: number): Money => ({ currencyCode: "USD", minorUnits });
const eur = (minorUnits: number): Money => ({ currencyCode: "EUR", minorUnits });
const percentage: Discount = {
  kind: { case: "percentage", basisPoints: 1_000 },
  maximumAmount: null,
  minimumOrderAmount: null,
};
const fixed = (amount: Money): Discount => ({ ...percentage, kind: { case: "fixedAmount", amount } });

const draft: CouponDraft = {
  name: "Ten percent",
  description: "",
  category: "",
  discount: percentage,
  startsAt: at(0),
  expiresAt: at(1),
  quantity: null,
  validityAfterIssueMs: null,
  maxPerUser: 1,
  usageCap: null,
  stackable: false,
  maxUses: 1,
  lockDurationMs: 300_000,
  claimWindowMs: null,
  type: null,
  throttle: null,
  quota: null,
  codeBook: null,
  labels: null,
};

const violated = (change: Partial<CouponDraft>): string[] => {
  const result = checkDefinition({ ...draft, ...change });
  if (!(result instanceof Refusal)) return [];
  expect(result.reason).toBe("INVALID_FIELD");
  for (const { description } of result.violations) expect(description).not.toBe("");
  return result.violations.map(({ field }) => field);
};

describe("checkDefinition names", () => {
  const currency = (name: string) => `coupon.discount.${name}.currency_code`;
  const units = (name: string) => `coupon.discount.${name}.minor_units`;
  test.for([
    ["an empty name", { name: "" }, ["coupon.name"]],
    ["a name of blanks", { name: " \t\n\u00a0" }, ["coupon.name"]],
    ["a NUL in the name", { name: "a\0" }, ["coupon.name"]],
    ["a NUL in the description", { description: "\0" }, ["coupon.description"]],
    ["a NUL in the category", { category: "a\0b" }, ["coupon.category"]],
    ["no discount", { discount: null }, ["coupon.discount"]],
    ["no start", { startsAt: null }, ["coupon.start_time"]],
    ["no end", { expiresAt: null }, ["coupon.expire_time"]],
    ["an end at the start", { startsAt: at(5), expiresAt: at(5) }, ["coupon.expire_time"]],
    ["an end before the start", { startsAt: at(5), expiresAt: at(4) }, ["coupon.expire_time"]],
    ["an unknown currency", { discount: fixed({ currencyCode: "XXQ", minorUnits: 1 }) }, [currency("fixed_amount")]],
    ["no currency", { discount: fixed({ currencyCode: "", minorUnits: 1 }) }, [currency("fixed_amount")]],
    ["a withdrawn currency", { discount: fixed({ currencyCode: "DEM", minorUnits: 1 }) }, [currency("fixed_amount")]],
    ["nothing off", { discount: fixed(usd(0)) }, [units("fixed_amount")]],
    ["a ceiling of nothing", { discount: { ...percentage, maximumAmount: usd(0) } }, [units("maximum_amount")]],
    [
      "a ceiling on a fixed amount",
      { discount: { ...fixed(usd(5)), maximumAmount: usd(5) } },
      ["coupon.discount.maximum_amount"],
    ],
    [
      "a negative minimum",
      { discount: { ...percentage, minimumOrderAmount: usd(-1) } },
      [units("minimum_order_amount")],
    ],
    [
      "two currencies beside a fixed amount",
      { discount: { ...fixed(usd(5)), minimumOrderAmount: eur(5) } },
      [currency("minimum_order_amount")],
    ],
    [
      "two currencies beside a percentage",
      { discount: { ...percentage, maximumAmount: usd(5), minimumOrderAmount: eur(5) } },
      [currency("minimum_order_amount")],
    ],
    [
      "an unknown currency and nothing off",
      { discount: fixed({ currencyCode: "XXQ", minorUnits: 0 }) },
      [currency("fixed_amount"), units("fixed_amount")],
    ],
    [
      "every field at once",
      { name: "", description: "\0", category: "\0", discount: null, startsAt: null, expiresAt: null },
      [
        "coupon.name",
        "coupon.description",
        "coupon.category",
        "coupon.discount",
        "coupon.expire_time",
        "coupon.start_time",
      ],
    ],
  ] as [string, Partial<CouponDraft>, string[]][])("%s", ([, change, fields]) => {
    expect(violated(change).sort()).toEqual([...fields].sort());
  });
});

describe("checkDefinition throttles a MEGADEAL", () => {
  const own = { maxConcurrent: 1, maxPerSecond: 2, maxWaitMs: 3 };
  const throttleOf = (change: Partial<CouponDraft>) => (checkDefinition({ ...draft, ...change }) as Coupon).throttle;

  test("to 5 at once, 10 a second and 10 seconds in the queue, unless it says otherwise", () => {
    expect(throttleOf({ type: "MEGADEAL" })).toEqual({ maxConcurrent: 5, maxPerSecond: 10, maxWaitMs: 10_000 });
    expect(throttleOf({ type: "MEGADEAL", throttle: own })).toEqual(own);
  });

  test.for([null, "FREE", "STANDARD"] as const)("and not %s", (type) => {
    expect(throttleOf({ type })).toBeNull();
    expect(throttleOf({ type, throttle: own })).toEqual(own);
  });
});

test("a code book may be empty", () => {
  expect(violated({ quantity: 0 })).toEqual(["coupon.quantity"]);
  expect(violated({ quantity: 0, codeBook: { exactMatch: false } })).toEqual([]);
});

describe("checkDefinition accepts", () => {
  test.for([
    ["the least", {}],
    ["one millisecond", { startsAt: at(0), expiresAt: at(1) }],
    ["one minor unit", { discount: fixed(usd(1)) }],
    ["a minimum of nothing", { discount: { ...percentage, minimumOrderAmount: usd(0) } }],
    ["a ceiling and a minimum", { discount: { ...percentage, maximumAmount: usd(1), minimumOrderAmount: usd(9) } }],
    ["a fixed amount and a minimum", { discount: { ...fixed(eur(5)), minimumOrderAmount: eur(9) } }],
    ["a currency without minor units", { discount: fixed({ currencyCode: "JPY", minorUnits: 1 }) }],
    ["a currency of this decade", { discount: fixed({ currencyCode: "VES", minorUnits: 1 }) }],
    ["a name of one character", { name: "x" }],
  ] as [string, Partial<CouponDraft>][])("%s", ([, change]) => {
    expect(checkDefinition({ ...draft, ...change })).toEqual({ ...draft, ...change });
  });
});

const coupon: Coupon = {
  ...(draft as Coupon),
  id: "id",
  startsAt: at(-10),
  expiresAt: at(10),
  quantity: 5,
  issuedCount: 2,
  usedCount: 0,
  placeCount: 0,
  exhaustedAt: null,
  revision: 1,
  createdAt: at(-20),
  updatedAt: at(-20),
  pausedAt: null,
  deletedAt: null,
  revokedAt: null,
  isTypePool: false,
};

/** In the order in which they win. */
const states: [CouponState, Partial<Coupon>][] = [
  ["DELETED", { deletedAt: at(-1) }],
  ["ENDED", { expiresAt: now }],
  ["PAUSED", { pausedAt: at(-1) }],
  ["SCHEDULED", { startsAt: at(1) }],
  ["EXHAUSTED", { exhaustedAt: at(-1) }],
  ["SOLD_OUT", { issuedCount: 5 }],
  ["ACTIVE", {}],
];

describe("couponState", () => {
  test.for(states)("%s", ([state, change]) => {
    expect(couponState({ ...coupon, ...change }, now)).toBe(state);
  });

  const pairs = states.flatMap(([first, one], index) =>
    states.slice(index + 1).map(([second, other]) => [first, second, { ...other, ...one }] as const),
  );
  test.for(pairs)("%s before %s", ([first, , change]) => {
    expect(couponState({ ...coupon, ...change }, now)).toBe(first);
  });

  test.for([
    ["at its start time", { startsAt: now }, "ACTIVE"],
    ["a millisecond before it", { startsAt: at(1) }, "SCHEDULED"],
    ["a millisecond before its end", { expiresAt: at(1) }, "ACTIVE"],
    ["at its end", { expiresAt: at(0) }, "ENDED"],
    ["unlimited", { quantity: null, issuedCount: 10 ** 12 }, "ACTIVE"],
  ] as [string, Partial<Coupon>, CouponState][])("%s", ([, change, state]) => {
    expect(couponState({ ...coupon, ...change }, now)).toBe(state);
  });
});

test.for([
  [null, 7, null],
  [5, 0, 5],
  [5, 5, 0],
  [5, 6, 0],
] as const)("remainingCount of %s with %s issued is %s", ([quantity, issuedCount, remaining]) => {
  expect(remainingCount({ quantity, issuedCount })).toBe(remaining);
});

test.for([
  [null, 7, null, null],
  [5, 0, null, 5],
  [5, 5, null, 0],
  [5, 6, null, 0],
  [5, 4, now, 0],
] as const)(
  "remainingUseCount under a cap of %s with %s places taken, exhausted at %s, is %s",
  ([usageCap, placeCount, exhaustedAt, remaining]) => {
    expect(remainingUseCount({ usageCap, placeCount, exhaustedAt })).toBe(remaining);
  },
);

describe("exhaustionOf", () => {
  test.for([
    ["a lowered cap with places left", 5, 9, 4, null, null],
    ["a cap lowered to the places taken", 5, 9, 5, null, now],
    ["a cap lowered to the places taken, exhausted before", 5, 9, 5, at(-9), at(-9)],
    ["a raised cap", 6, 5, 5, at(-9), null],
    ["a cap that was cleared", null, 5, 5, at(-9), null],
    ["a first cap, at the places taken", 3, null, 3, null, now],
    ["no cap, as before", null, null, 0, null, null],
    ["the same cap, not reached", 5, 5, 4, null, null],
    ["the same cap, reached before", 5, 5, 5, at(-9), at(-9)],
    ["the same cap, reached before a place was freed", 5, 5, 4, at(-9), at(-9)],
  ] as [string, number | null, number | null, number, Date | null, Date | null][])(
    "%s",
    ([, cap, before, placeCount, exhaustedAt, since]) => {
      expect(exhaustionOf(cap, { usageCap: before, placeCount, exhaustedAt }, now)).toEqual(since);
    },
  );
});
