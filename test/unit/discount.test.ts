import fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { Discount, Money } from "../../src/domain/coupon.js";
import { applyDiscounts, currencyOf, type OrderDiscount } from "../../src/domain/discount.js";

const usd = (minorUnits: number): Money => ({ currencyCode: "USD", minorUnits });
const none = { maximumAmount: null, minimumOrderAmount: null };
const percentage = (basisPoints: number, ceiling?: number): Discount => ({
  ...none,
  kind: { case: "percentage", basisPoints },
  maximumAmount: ceiling === undefined ? null : usd(ceiling),
});
const fixed = (minorUnits: number): Discount => ({ ...none, kind: { case: "fixedAmount", amount: usd(minorUnits) } });
/** Ids in the order of the list. */
const listed = (discounts: readonly Discount[]): OrderDiscount[] =>
  discounts.map((discount, index) => ({ userCouponId: `id-${String(index).padStart(3, "0")}`, discount }));

const largest = 10 ** 15;
const amount = fc.oneof(
  fc.nat(30_000),
  fc.maxSafeNat().map((n) => n % (largest + 1)),
  fc.constantFrom(0, 1, largest - 1, largest),
);
const positive = amount.map((n) => Math.max(1, n));
const basisPoints = fc.oneof(fc.integer({ min: 1, max: 10_000 }), fc.constantFrom(1, 3_333, 5_000, 9_999, 10_000));
const discount = fc.oneof(
  basisPoints.map((points) => percentage(points)),
  fc.tuple(basisPoints, positive).map(([points, ceiling]) => percentage(points, ceiling)),
  positive.map(fixed),
);
const discounts = fc.array(discount, { maxLength: 20 }).map(listed);
const runs = { numRuns: 1_000 };

/** The order in which they apply, by the letter of the contract. */
function inTurn(all: readonly OrderDiscount[]): OrderDiscount[] {
  const idOrder = (a: OrderDiscount, b: OrderDiscount) => (a.userCouponId < b.userCouponId ? -1 : 1);
  const size = ({ discount: { kind } }: OrderDiscount) =>
    kind.case === "percentage" ? kind.basisPoints : kind.amount.minorUnits;
  const ofKind = (kind: string) => all.filter((one) => one.discount.kind.case === kind);
  return [...ofKind("percentage"), ...ofKind("fixedAmount")].sort((a, b) => {
    if (a.discount.kind.case !== b.discount.kind.case) return 0;
    return size(b) - size(a) || idOrder(a, b);
  });
}

describe("applyDiscounts, whatever the order", () => {
  test("takes away no more than there is: nothing is ever below zero", () => {
    fc.assert(
      fc.property(amount, discounts, (order, all) => {
        const { amounts, total, final } = applyDiscounts(order, all);
        expect(final).toBeGreaterThanOrEqual(0);
        expect(total + final).toBe(order);
        expect(amounts.length).toBe(all.length);
        expect(amounts.reduce((sum, one) => sum + BigInt(one), 0n)).toBe(BigInt(total));
        for (const one of [...amounts, total, final]) expect(Number.isSafeInteger(one)).toBe(true);
      }),
      runs,
    );
  });

  test("takes each discount from what the ones before it left", () => {
    fc.assert(
      fc.property(amount, discounts, (order, all) => {
        const { amounts } = applyDiscounts(order, all);
        const taken = new Map(all.map(({ userCouponId }, index) => [userCouponId, BigInt(amounts[index] as number)]));
        let left = BigInt(order);
        for (const {
          userCouponId,
          discount: { kind, maximumAmount },
        } of inTurn(all)) {
          const one = taken.get(userCouponId) as bigint;
          expect(one >= 0n && one <= left).toBe(true);
          if (kind.case === "fixedAmount") {
            const wanted = BigInt(kind.amount.minorUnits);
            expect(one).toBe(wanted < left ? wanted : left);
          } else {
            // one <= left * points / 10,000 < one + 1, in whole numbers; unless the ceiling is below that.
            const exact = left * BigInt(kind.basisPoints);
            expect(one * 10_000n <= exact).toBe(true);
            const atCeiling = maximumAmount !== null && one === BigInt(maximumAmount.minorUnits);
            if (!atCeiling) expect(exact < (one + 1n) * 10_000n).toBe(true);
            if (maximumAmount) expect(one <= BigInt(maximumAmount.minorUnits)).toBe(true);
          }
          left -= one;
        }
      }),
      runs,
    );
  });

  test("gives each user coupon the same, however the list is ordered", () => {
    fc.assert(
      fc.property(
        amount,
        discounts.chain((all) => fc.tuple(fc.constant(all), fc.shuffledSubarray(all, { minLength: all.length }))),
        (order, [all, shuffled]) => {
          const byId = (list: readonly OrderDiscount[]) => {
            const { amounts } = applyDiscounts(order, list);
            return Object.fromEntries(list.map(({ userCouponId }, index) => [userCouponId, amounts[index]]));
          };
          expect(byId(shuffled)).toEqual(byId(all));
        },
      ),
      runs,
    );
  });

  test("with one of 100% leaves nothing", () => {
    fc.assert(
      fc.property(amount, discounts, (order, all) => {
        const free = { userCouponId: "id-free", discount: percentage(10_000) };
        expect(applyDiscounts(order, [...all, free])).toMatchObject({ final: 0, total: order });
      }),
      runs,
    );
  });

  test("changes nothing in the list that it was given", () => {
    fc.assert(
      fc.property(amount, discounts, (order, all) => {
        const before = JSON.stringify(all);
        applyDiscounts(order, Object.freeze(all) as OrderDiscount[]);
        expect(JSON.stringify(all)).toBe(before);
      }),
    );
  });
});

describe("applyDiscounts, by example", () => {
  test.for([
    ["the contract's own: 10% and 1,500 off 10,000", 10_000, [fixed(1_500), percentage(1_000)], [1_500, 1_000]],
    ["12.5% of 999 is 124", 999, [percentage(1_250)], [124]],
    ["50% of 10,000 with a ceiling of 2,000", 10_000, [percentage(5_000, 2_000)], [2_000]],
    ["a ceiling that is not reached", 10_000, [percentage(1_000, 2_000)], [1_000]],
    ["500 off an order of 300", 300, [fixed(500)], [300]],
    [
      "a percentage is of what is left, not of the whole",
      10_000,
      [percentage(5_000), percentage(5_000)],
      [5_000, 2_500],
    ],
    ["the higher percentage comes first", 1_001, [percentage(1_000), percentage(5_000)], [50, 500]],
    ["the smallest percentage comes before the greatest amount", 1_000, [fixed(largest), percentage(1)], [1_000, 0]],
    ["percentages come before amounts", 10_000, [fixed(largest), percentage(1)], [9_999, 1]],
    ["the greater amount comes first", 1_000, [fixed(300), fixed(900)], [100, 900]],
    ["equals come in the order of their ids", 700, [fixed(500), fixed(500)], [500, 200]],
    [
      "equal percentages, too, and a ceiling is no part of that",
      999,
      [percentage(5_000, 100), percentage(5_000)],
      [100, 449],
    ],
    ["a share below one minor unit is nothing", 99, [percentage(100)], [0]],
    ["nothing can be taken off nothing", 0, [fixed(5), percentage(10_000)], [0, 0]],
    ["100% and an amount", 1_000, [fixed(5), percentage(10_000)], [0, 1_000]],
    ["the largest order, to the unit", largest, [percentage(3_333)], [333_300_000_000_000]],
    ["the largest order less one", largest - 1, [percentage(9_999)], [999_899_999_999_999]],
    ["no discount at all", 500, [], []],
  ] as [string, number, Discount[], number[]][])("%s", ([, order, all, amounts]) => {
    const total = amounts.reduce((sum, one) => sum + one, 0);
    expect(applyDiscounts(order, listed(all))).toEqual({ amounts, total, final: order - total });
  });

  test("equals come in the order of their ids, not of the list", () => {
    const [a, b] = listed([fixed(500), fixed(500)]) as [OrderDiscount, OrderDiscount];
    expect(applyDiscounts(700, [b, a]).amounts).toEqual([200, 500]);
  });
});

describe("currencyOf", () => {
  test.for([
    ["a bare percentage", percentage(1), null],
    ["a fixed amount", fixed(1), "USD"],
    ["a ceiling", percentage(1, 5), "USD"],
    ["a minimum", { ...percentage(1), minimumOrderAmount: usd(5) }, "USD"],
  ] as [string, Discount, string | null][])("of %s", ([, one, currency]) => {
    expect(currencyOf(one)).toBe(currency);
  });
});
