import { describe, expect, test } from "vitest";
import { randomBelow, randomFraction } from "../../src/platform/random-numbers.js";

describe("random whole numbers", () => {
  test.for([1, 2, 3, 10, 36, 255, 256, 257, 1_000, 4_000_000, 2 ** 32])("below %i", (limit) => {
    const draws = Array.from({ length: 20_000 }, () => randomBelow(limit));
    expect(draws.every((one) => Number.isInteger(one) && one >= 0 && one < limit)).toBe(true);
    const mean = draws.reduce((sum, one) => sum + one, 0) / draws.length;
    // The mean of that many is within 5 standard deviations.
    expect(Math.abs(mean - (limit - 1) / 2)).toBeLessThanOrEqual((5 * limit) / Math.sqrt(12 * draws.length));
    if (limit <= 256) expect(new Set(draws).size).toBe(limit);
  });

  test.for([192, 3 * 2 ** 30])("below %i are not the smaller ones more often", (limit) => {
    const draws = Array.from({ length: 20_000 }, () => randomBelow(limit));
    // Without drawing again what a whole number of bytes leaves over, half of all would be in the lowest third.
    expect(draws.filter((one) => one < limit / 3).length / draws.length).toBeCloseTo(1 / 3, 1);
  });
});

test("random fractions are from 0 to less than 1", () => {
  const draws = Array.from({ length: 20_000 }, randomFraction);
  expect(draws.every((one) => one >= 0 && one < 1)).toBe(true);
  expect(draws.reduce((sum, one) => sum + one, 0) / draws.length).toBeCloseTo(0.5, 1);
  expect(new Set(draws).size).toBe(draws.length);
});
