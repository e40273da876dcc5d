import fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { Coupon, Discount, Money } from "../../src/domain/coupon.js";
import { Refusal } from "../../src/domain/refusal.js";
import {
  type Choice,
  type ChosenCoupon,
  judgeOrder,
  keptPlaces,
  type Order,
  refusalOfOrder,
  type StandingUses,
  type UseRefusal,
} from "../../src/domain/usage.js";
import { type UserCoupon, userCouponStatus } from "../../src/domain/user-coupon.js";
import { userCouponStates } from "../support/user-coupon-states.js";

const now = new Date("2030-06-01T12:00:00.000Z");
const at = (offsetMs: number) => new Date(now.getTime() + offsetMs);
const usd = (minorUnits: number): Money => ({ currencyCode: "USD", minorUnits });
const tenPercent: Discount = {
  kind: { case: "percentage", basisPoints: 1_000 },
  maximumAmount: null,
  minimumOrderAmount: null,
};

interface Change {
  readonly userCoupon?: Partial<UserCoupon>;
  readonly coupon?: Partial<Coupon>;
  readonly discount?: Partial<Discount>;
  readonly lockVersion?: number;
  readonly lockToken?: string | null;
}

function chosen(
  { userCoupon, coupon, discount, lockVersion = 0, lockToken = null }: Change = {},
  id = "a",
): ChosenCoupon {
  return {
    userCoupon: {
      id,
      couponId: "coupon",
      userId: "u",
      issuedAt: at(-1_000),
      validUntil: null,
      maxUses: 1,
      useCount: 0,
      placeCount: 0,
      lockedUntil: null,
      claimUntil: null,
      releasedAt: null,
      code: null,
      discount: null,
      labels: null,
      ...userCoupon,
    },
    coupon: {
      expiresAt: at(1_000),
      revokedAt: null,
      exhaustedAt: null,
      stackable: true,
      ...coupon,
      discount: { ...tenPercent, ...discount },
    } as Coupon,
    lockVersion,
    lockToken,
  };
}

const order = (choices: readonly Choice[], amount: Money | null = usd(10_000)): Order => ({
  userId: "u",
  choices,
  productId: "p",
  orderId: "o",
  amount,
});
const choice = (lockVersion = 0, userCouponId = "a"): Choice => ({ userCouponId, lockVersion });

/** What speaks against one user coupon; a second one that nothing speaks against beside it, where `beside` is set. */
function against(
  change: Change | null,
  { version = 0, token = "", beside = false, amount = usd(10_000) as Money | null } = {},
) {
  const all = [change && chosen(change), ...(beside ? [chosen({}, "b")] : [])];
  const choices = [choice(version), ...(beside ? [choice(0, "b")] : [])];
  return judgeOrder(order(choices, amount), all, now, token).objections[0];
}

/** Every reason that can be told of a user coupon which the user holds, in the order of the contract. */
const ways: { reason: UseRefusal; change: Change; version?: number; beside?: true }[] = [
  { reason: "USER_COUPON_RELEASED", change: { userCoupon: { releasedAt: at(-1) } } },
  { reason: "ALREADY_USED", change: { userCoupon: { maxUses: 2, useCount: 2, placeCount: 2 } } },
  { reason: "USER_COUPON_REVOKED", change: { coupon: { revokedAt: now } } },
  { reason: "USAGE_CAP_REACHED", change: { coupon: { exhaustedAt: at(-1) } } },
  { reason: "USER_COUPON_EXPIRED", change: { userCoupon: { validUntil: now } } },
  { reason: "LOCKED", change: { userCoupon: { lockedUntil: at(1) }, lockVersion: 3 } },
  { reason: "LOCK_LOST", change: { lockVersion: 3 }, version: 3 },
  { reason: "NOT_STACKABLE", change: { coupon: { stackable: false } }, beside: true },
  { reason: "CURRENCY_MISMATCH", change: { discount: { maximumAmount: { currencyCode: "EUR", minorUnits: 1 } } } },
  { reason: "MINIMUM_ORDER_NOT_REACHED", change: { discount: { minimumOrderAmount: usd(10_001) } } },
];
const merged = (...changes: Change[]): Change => ({
  userCoupon: Object.assign({}, ...changes.map((one) => one.userCoupon)),
  coupon: Object.assign({}, ...changes.map((one) => one.coupon)),
  discount: Object.assign({}, ...changes.map((one) => one.discount)),
  lockVersion: Math.max(...changes.map((one) => one.lockVersion ?? 0)),
});
/** These exclude each other: with a version the lock is lost, without one it is somebody else's; one currency decides. */
const exclusive = new Set(["LOCKED LOCK_LOST", "CURRENCY_MISMATCH MINIMUM_ORDER_NOT_REACHED"]);

describe("judgeOrder", () => {
  test("has nothing against an ordinary one", () => {
    expect(judgeOrder(order([choice()]), [chosen()], now)).toEqual({
      objections: [[]],
      discounted: { amounts: [1_000], total: 1_000, final: 9_000 },
      discountedBefore: 0,
    });
  });

  describe("what earlier calls used for the order", () => {
    const stands = (changed: Partial<StandingUses> = {}): StandingUses => ({
      ...{ count: 1, discounted: 4_000, stackable: true, amount: usd(10_000), mark: "one" },
      ...changed,
    });
    const judged = (standing: StandingUses, change: Change = {}, amount: Money | null = usd(10_000)) =>
      judgeOrder(order([choice()], amount), [chosen(change)], now, "", standing);

    test("is taken off first, and the minimum is held against the whole amount", () => {
      const change = { discount: { minimumOrderAmount: usd(10_000) } };
      expect(judged(stands(), change)).toEqual({
        objections: [[]],
        discounted: { amounts: [600], total: 600, final: 5_400 },
        discountedBefore: 4_000,
      });
      const all = { kind: { case: "fixedAmount", amount: usd(50_000) } } as const;
      expect(judged(stands({ discounted: 10_000 }), { discount: all }).discounted).toMatchObject({
        total: 0,
        final: 0,
      });
    });

    test("never leaves less than nothing, whatever an earlier release took off", () => {
      const { discounted, discountedBefore } = judged(stands({ discounted: 12_000 }));
      expect({ discountedBefore, ...discounted }).toMatchObject({ discountedBefore: 10_000, total: 0, final: 0 });
    });

    test.for([
      { what: "nothing that stands alone beside what stands", change: { coupon: { stackable: false } }, standing: {} },
      { what: "nothing beside one that stands alone", change: {}, standing: { stackable: false } },
    ])("$what", ({ change, standing }) => {
      expect(judged(stands(standing), change).objections).toEqual([["NOT_STACKABLE"]]);
    });

    test.for([
      { what: "another amount", standing: { amount: usd(9_999) } },
      { what: "another currency", standing: { amount: { currencyCode: "EUR", minorUnits: 10_000 } } },
      { what: "several amounts", standing: { amount: null } },
    ])("with $what is refused", ({ standing }) => {
      expect(judged(stands(standing)).objections).toEqual([["ORDER_MISMATCH"]]);
      expect(judged(stands(standing), {}, null).objections).toEqual([[]]);
    });
  });

  test("what the user does not hold is not found, and nothing else is said of it", () => {
    expect(against(null, { version: 5, beside: true })).toEqual(["USER_COUPON_NOT_FOUND"]);
  });

  test.for(ways)("$reason by itself", ({ reason, change, ...rest }) => {
    expect(against(change, rest)).toEqual([reason]);
  });

  const pairs = ways.flatMap((first, index) =>
    ways
      .slice(index + 1)
      .filter((second) => !exclusive.has(`${first.reason} ${second.reason}`))
      .map((second) => ({ first, second, name: `${first.reason} and ${second.reason}` })),
  );
  test.for(pairs)("$name: both, in this order", ({ first, second }) => {
    const version = Math.max(first.version ?? 0, second.version ?? 0);
    const beside = (first.beside ?? second.beside) === true;
    expect(against(merged(second.change, first.change), { version, beside })).toEqual([first.reason, second.reason]);
  });

  test("with everything against it, everything is told", () => {
    const all = ways.filter(({ reason }) => reason !== "LOCK_LOST" && reason !== "MINIMUM_ORDER_NOT_REACHED");
    expect(against(merged(...all.map(({ change }) => change)), { beside: true })).toEqual(
      all.map(({ reason }) => reason),
    );
  });

  describe("a lock", () => {
    const locked = { userCoupon: { lockedUntil: at(1) }, lockVersion: 7, lockToken: "call" };
    const ended = { ...locked, userCoupon: { lockedUntil: now } };
    test.for([
      ["that stands, with its version", locked, 7, "", []],
      ["that stands, with another version", locked, 6, "", ["LOCK_LOST"]],
      ["that stands, with a version to come", locked, 8, "", ["LOCK_LOST"]],
      ["that stands, without a version", locked, 0, "", ["LOCKED"]],
      ["that stands, for the call that was granted it", locked, 0, "call", []],
      ["that stands, for another call", locked, 0, "other", ["LOCKED"]],
      ["that stands, for the call that was granted it, with another version", locked, 6, "call", []],
      ["that stands and has no token, for a call without one", { ...locked, lockToken: "" }, 0, "", ["LOCKED"]],
      ["that ends this very millisecond, with its version", ended, 7, "", ["LOCK_LOST"]],
      ["that ends this very millisecond, without a version", ended, 0, "", []],
      ["that ends this very millisecond, for the call that was granted it", ended, 0, "call", []],
      ["that never was, with a version", {}, 1, "", ["LOCK_LOST"]],
    ] as [string, Change, number, string, UseRefusal[]][])("%s", ([, change, version, token, reasons]) => {
      expect(against(change, { version, token })).toEqual(reasons);
    });
  });

  describe("combined with others", () => {
    const single = { coupon: { stackable: false } };
    test.for([
      ["one that is not stackable, alone", [single], [[]]],
      ["one that is not stackable, and another one", [single, {}], [["NOT_STACKABLE"], []]],
      ["two that are not", [single, single], [["NOT_STACKABLE"], ["NOT_STACKABLE"]]],
      ["two that are", [{}, {}], [[], []]],
    ] as [string, Change[], UseRefusal[][]][])("%s", ([, changes, reasons]) => {
      const all = changes.map((change, index) => chosen(change, `id-${index}`));
      const choices = all.map(({ userCoupon }) => choice(0, userCoupon.id));
      expect(judgeOrder(order(choices), all, now).objections).toEqual(reasons);
    });

    test("one that is not stackable stands alone even if the other one cannot be used", () => {
      const judged = judgeOrder(order([choice(), choice(0, "b")]), [chosen(single), null], now);
      expect(judged.objections).toEqual([["NOT_STACKABLE"], ["USER_COUPON_NOT_FOUND"]]);
    });
  });

  describe("under a usage cap", () => {
    const reached: UseRefusal[] = ["USAGE_CAP_REACHED"];
    const ofCap = (usageCap: number | null, placeCount: number, id = "coupon"): Change => ({
      coupon: { id, usageCap, placeCount },
    });
    const lastOne = ofCap(5, 4);
    const kept: Change = { ...lastOne, userCoupon: { maxUses: 2, useCount: 0, placeCount: 1 } };
    const unusable = merged({ userCoupon: { releasedAt: now } }, lastOne);
    test.for([
      ["with one place left, one", [lastOne], [[]]],
      ["with one place left, two: the one that is named first", [lastOne, lastOne], [[], reached]],
      ["with two places left, three", [ofCap(5, 3), ofCap(5, 3), ofCap(5, 3)], [[], [], reached]],
      ["with no place left, one", [ofCap(5, 5)], [reached]],
      ["with one place left, one that has kept its own, and another", [kept, lastOne], [[], []]],
      ["with one place left, one that cannot be used takes none", [unusable, lastOne], [["USER_COUPON_RELEASED"], []]],
      ["two coupons with one place each", [lastOne, ofCap(5, 4, "other")], [[], []]],
      ["without a cap, two", [ofCap(null, 9), ofCap(null, 9)], [[], []]],
    ] as [string, Change[], UseRefusal[][]][])("%s", ([, changes, reasons]) => {
      const all = changes.map((change, index) => chosen(change, `id-${index}`));
      const choices = all.map(({ userCoupon }) => choice(0, userCoupon.id));
      const judged = judgeOrder(order(choices), all, now);
      expect(judged.objections).toEqual(reasons);
      expect(judged.discounted?.amounts.map((amount) => amount > 0)).toEqual(reasons.map((one) => one.length === 0));
    });
  });

  describe("a code's own discount holds instead of its coupon's:", () => {
    const eur = (minorUnits: number): Money => ({ currencyCode: "EUR", minorUnits });
    const own = (discount: Partial<Discount>, ofCoupon: Partial<Discount> = {}): Change => ({
      userCoupon: { discount: { ...tenPercent, ...discount } },
      discount: ofCoupon,
    });
    test.for([
      ["what it takes off", own({ kind: { case: "percentage", basisPoints: 4_200 } }), [], 4_200],
      ["its maximum", own({ maximumAmount: usd(7) }), [], 7],
      ["its minimum", own({ minimumOrderAmount: usd(10_001) }), ["MINIMUM_ORDER_NOT_REACHED"], 0],
      ["its currency", own({ kind: { case: "fixedAmount", amount: eur(5) } }), ["CURRENCY_MISMATCH"], 0],
      ["and not its coupon's minimum", own({}, { minimumOrderAmount: usd(10_001) }), [], 1_000],
      ["nor its coupon's currency", own({}, { kind: { case: "fixedAmount", amount: eur(5) } }), [], 1_000],
    ] as [string, Change, UseRefusal[], number][])("%s", ([, change, reasons, amount]) => {
      const judged = judgeOrder(order([choice()]), [chosen(change)], now);
      expect(judged.objections).toEqual([reasons]);
      expect(judged.discounted?.amounts).toEqual([amount]);
    });
  });

  describe("the amount", () => {
    const minimum = { discount: { minimumOrderAmount: usd(1_000) } };
    test.for([
      ["at the minimum", minimum, usd(1_000), []],
      ["one below the minimum", minimum, usd(999), ["MINIMUM_ORDER_NOT_REACHED"]],
      ["in another currency, however much", minimum, { currencyCode: "EUR", minorUnits: 9_999 }, ["CURRENCY_MISMATCH"]],
      ["in another currency, for a bare percentage", {}, { currencyCode: "JPY", minorUnits: 1 }, []],
      [
        "in another currency, for a fixed amount",
        { discount: { kind: { case: "fixedAmount", amount: usd(1) } } },
        { currencyCode: "EUR", minorUnits: 5 },
        ["CURRENCY_MISMATCH"],
      ],
      ["not known yet, so nothing is said of it", minimum, null, []],
      ["nothing", {}, usd(0), []],
    ] as [string, Change, Money | null, UseRefusal[]][])("%s", ([, change, amount, reasons]) => {
      expect(against(change, { amount })).toEqual(reasons);
    });

    test("the minimum is held against the whole amount, not against what others have left", () => {
      const all = [chosen({ discount: { kind: { case: "percentage", basisPoints: 9_000 } } }), chosen(minimum, "b")];
      const judged = judgeOrder(order([choice(), choice(0, "b")], usd(1_000)), all, now);
      expect(judged).toMatchObject({ objections: [[], []], discounted: { amounts: [900, 10], total: 910, final: 90 } });
    });

    test("not known yet gives no discount", () => {
      expect(judgeOrder(order([choice()], null), [chosen()], now).discounted).toBeNull();
    });
  });

  test("only what nothing speaks against takes something off, each at its own index", () => {
    const fixed = (minorUnits: number): Change => ({
      discount: { kind: { case: "fixedAmount", amount: usd(minorUnits) } },
    });
    const all = [
      chosen(fixed(100)),
      null,
      chosen(merged(fixed(900), { userCoupon: { releasedAt: now } }), "c"),
      chosen(fixed(700), "d"),
    ];
    const choices = ["a", "b", "c", "d"].map((id) => choice(0, id));
    expect(judgeOrder(order(choices, usd(750)), all, now).discounted).toEqual({
      amounts: [50, 0, 0, 700],
      total: 750,
      final: 0,
    });
  });

  test("agrees with the status: READY is what can be used, and the first reason names the others", () => {
    const statusOf: Partial<Record<UseRefusal, string>> = {
      USER_COUPON_RELEASED: "RELEASED",
      ALREADY_USED: "USED",
      USER_COUPON_EXPIRED: "EXPIRED",
      LOCKED: "LOCKED",
    };
    fc.assert(
      fc.property(userCouponStates(now), ({ userCoupon, coupon, lockVersion }) => {
        const one = chosen({ userCoupon, coupon, lockVersion });
        const [first] = judgeOrder(order([choice()]), [one], now).objections[0] ?? [];
        const status = userCouponStatus(one.userCoupon, one.coupon, now);
        expect(status === "READY").toBe(first === undefined);
        if (first === "USAGE_CAP_REACHED" || first === "USER_COUPON_REVOKED") {
          expect(["USED", "REVOKED"]).toContain(status);
        } else if (first) {
          expect(status).toBe(statusOf[first]);
        }
      }),
      { numRuns: 5_000 },
    );
  });
});

test.for([
  [0, 0, 0],
  [2, 2, 0],
  [3, 1, 2],
] as const)("of %s places with %s uses standing it has kept %s", ([placeCount, useCount, kept]) => {
  expect(keptPlaces({ placeCount, useCount })).toBe(kept);
});

describe("refusalOfOrder", () => {
  const lockedFor = (ms: number, id: string) => chosen({ userCoupon: { lockedUntil: at(ms) } }, id);

  test("is nothing when there is nothing to object", () => {
    expect(refusalOfOrder([], [], now)).toBeNull();
    expect(refusalOfOrder([[], []], [chosen(), chosen({}, "b")], now)).toBeNull();
  });

  test("has the first reason of the first choice, and all of them with their paths", () => {
    const objections: UseRefusal[][] = [[], ["USER_COUPON_EXPIRED", "NOT_STACKABLE"], ["USER_COUPON_NOT_FOUND"]];
    expect(refusalOfOrder(objections, [chosen(), chosen({}, "b"), null], now)).toEqual(
      new Refusal("USER_COUPON_EXPIRED", [], undefined, {
        preconditions: [
          { reason: "USER_COUPON_EXPIRED", field: "coupons[1]" },
          { reason: "NOT_STACKABLE", field: "coupons[1]" },
          { reason: "USER_COUPON_NOT_FOUND", field: "coupons[2]" },
        ],
      }),
    );
  });

  test.for([
    ["one lock", [["LOCKED"]], [lockedFor(700, "a")], 700],
    ["two locks: after the later one", [["LOCKED"], ["LOCKED"]], [lockedFor(700, "a"), lockedFor(900, "b")], 900],
    ["a lock that ends at once", [["LOCKED"]], [lockedFor(1, "a")], 1],
    ["a lock, and another one that nothing speaks against", [[], ["LOCKED"]], [chosen(), lockedFor(50, "b")], 50],
    [
      "a lock and something that will not pass",
      [["LOCKED"], ["ALREADY_USED"]],
      [lockedFor(700, "a"), chosen()],
      undefined,
    ],
    ["a lock and something else of the same one", [["LOCKED", "NOT_STACKABLE"]], [lockedFor(700, "a")], undefined],
    ["a lock that was lost", [["LOCK_LOST"]], [lockedFor(700, "a")], undefined],
  ] as [string, UseRefusal[][], ChosenCoupon[], number | undefined][])(
    "of %s says when to come again",
    ([, objections, all, retryAfterMs]) => {
      expect(refusalOfOrder(objections, all, now)?.detail.retryAfterMs).toBe(retryAfterMs);
    },
  );

  test("does not wait for the caller's own lock beside somebody else's", () => {
    const own = lockedFor(5_000, "a");
    expect(refusalOfOrder([[], ["LOCKED"]], [own, lockedFor(50, "b")], now)?.detail.retryAfterMs).toBe(50);
  });
});
