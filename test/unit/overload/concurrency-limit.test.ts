import { describe, expect, test } from "vitest";
import { ConcurrencyLimit } from "../../../src/transport/overload/concurrency-limit.js";

const windowMs = 200;

/** Goes through windows in which every call takes so long; answers the limit after each. */
function run(
  limit: ConcurrencyLimit,
  windows: number,
  latencyMs: number,
  options: { atWork?: number; missed?: boolean },
) {
  const values: number[] = [];
  for (let window = 0; window < windows; window += 1) {
    if (options.missed) limit.missed();
    for (let call = 0; call < 20; call += 1) {
      clockMs += windowMs / 19;
      limit.sample(latencyMs, options.atWork ?? limit.value, clockMs);
    }
    values.push(limit.value);
  }
  return values;
}
let clockMs = 0;

describe("the limit of calls at work", () => {
  test("grows while calls are turned away and the others are quick, up to the bound", () => {
    const limit = new ConcurrencyLimit(1_000);
    const values = run(limit, 40, 50, { missed: true });
    expect(values[0]).toBeGreaterThan(256);
    expect(values).toEqual([...values].sort((a, b) => a - b));
    expect(values.at(-1)).toBe(1_000);
  });

  test("falls while calls take too long, but not to nothing", () => {
    const limit = new ConcurrencyLimit(1_000);
    run(limit, 5, 20, {});
    const values = run(limit, 40, 3_000, { missed: true });
    expect(values[0]).toBeLessThan(256);
    expect(values.at(-1)).toBe(64);
  });

  test("stays where it is when nobody is turned away", () => {
    const limit = new ConcurrencyLimit(1_000);
    expect(new Set(run(limit, 20, 50, {}))).toEqual(new Set([256]));
  });

  test("a slow store by itself is no reason to let less in", () => {
    const limit = new ConcurrencyLimit(1_000);
    const values = run(limit, 20, 400, { atWork: 10, missed: true });
    expect(values.at(-1)).toBeGreaterThan(256);
  });

  test("goes back to its first value when it is not needed any more", () => {
    const limit = new ConcurrencyLimit(1_000);
    run(limit, 40, 50, { missed: true });
    expect(run(limit, 200, 5, { atWork: 3 }).at(-1)).toBe(256);
  });

  test("a bound below everything is kept to", () => {
    const limit = new ConcurrencyLimit(5);
    expect(limit.value).toBe(5);
    expect(run(limit, 10, 5_000, { missed: true }).at(-1)).toBe(5);
  });
});
