import { describe, expect, test } from "vitest";
import { poolSizes } from "../../src/storage/postgres/pool-sizes.js";
import { assertBounds, type Bounds, boundsOf } from "../../src/wiring/bounds.js";

/** [connections in all, commits, reads, writes, background]; the probe has one more. */
const sizes: [number, number, number, number, number][] = [
  [4, 1, 1, 0, 1],
  [5, 1, 1, 1, 1],
  [6, 1, 1, 1, 2],
  [7, 2, 1, 1, 2],
  [8, 3, 1, 1, 2],
  [9, 3, 2, 1, 2],
  [10, 4, 2, 1, 2],
  [11, 4, 2, 2, 2],
  [12, 5, 2, 2, 2],
  [13, 5, 3, 2, 2],
  [14, 5, 3, 2, 3],
  [15, 6, 3, 2, 3],
  [16, 6, 4, 2, 3],
  [17, 6, 4, 3, 3],
  [24, 7, 7, 4, 5],
  [200, 43, 77, 39, 40],
];
test.for(sizes)("%i connections: %i for commits, %i for reads, %i for writes, %i in the background", (row) => {
  const [total, commits, reads, writes, background] = row;
  expect(poolSizes(total)).toEqual({ commits, reads, writes, background });
});

test("no pool gets smaller when there are more connections, and all are shared out", () => {
  for (let total = 5; total <= 200; total++) {
    const [fewer, more] = [poolSizes(total - 1), poolSizes(total)];
    for (const pool of Object.keys(more) as (keyof typeof more)[]) {
      expect(more[pool]).toBeGreaterThanOrEqual(fewer[pool]);
    }
    expect(Object.values(more).reduce((sum, size) => sum + size, 1)).toBe(total);
  }
});

test.for([
  [4, { issue: 1, issueCode: 1, use: 1, lock: 1 }, 1],
  [11, { issue: 1, issueCode: 1, use: 1, lock: 1 }, 1],
  [12, { issue: 2, issueCode: 1, use: 1, lock: 1 }, 1],
  [15, { issue: 2, issueCode: 1, use: 1, lock: 2 }, 2],
  [200, { issue: 2, issueCode: 1, use: 1, lock: 2 }, 8],
] as const)("with %i connections, this much is under way at once", ([poolSize, batches, loads]) => {
  expect(boundsOf(poolSize)).toMatchObject({ batches, loads });
});

test("bounds fit each other at every size", () => {
  for (let poolSize = 4; poolSize <= 200; poolSize++) assertBounds(boundsOf(poolSize), { poolSize });
});

describe("bounds that do not fit", () => {
  const good = boundsOf(12);
  test.for<[string, Partial<Bounds>, number, RegExp]>([
    ["pools and the setting", {}, 13, /pools of 5, 2, 2 and 2 connections and one for the probe are not 13/],
    ["a pool without a connection", { pools: { ...good.pools, reads: 0, commits: 7 } }, 12, /a pool has no connection/],
    [
      "more batches than connections for commits",
      { batches: { ...good.batches, lock: 2 } },
      12,
      /6 batches at once need as many connections in the pool for commits, which has 5/,
    ],
    ["as many loads as connections", { loads: 2 }, 12, /2 loads of the gate at once leave no connection of 2/],
  ])("%s", ([, changed, poolSize, message]) => {
    expect(() => assertBounds({ ...good, ...changed }, { poolSize })).toThrow(message);
  });
});
