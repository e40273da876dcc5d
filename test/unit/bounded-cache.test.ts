import { expect, test } from "vitest";
import { BoundedCache } from "../../src/platform/bounded-cache.js";

test("keeps so many that were used last", () => {
  const cache = new BoundedCache<number>(3);
  for (const [n, key] of ["a", "b", "c"].entries()) cache.set(key, n);
  expect(cache.get("a")).toBe(0);
  cache.set("d", 3);
  expect([...cache.keys()].sort()).toEqual(["a", "c", "d"]);
  cache.set("a", 4);
  expect(cache.size).toBe(3);
  expect(cache.get("a")).toBe(4);
});

test("makes no room for what it does not have", () => {
  // As an array it would be larger than may be.
  const cache = new BoundedCache<true>(2 ** 40, { ttl: 1_000 });
  cache.set("one", true);
  expect(cache.has("one")).toBe(true);
});

test("forgets after its time", async () => {
  const cache = new BoundedCache<true>(3, { ttl: 1 });
  cache.set("one", true);
  await expect.poll(() => cache.has("one")).toBe(false);
  expect(cache.get("one")).toBeUndefined();
});
