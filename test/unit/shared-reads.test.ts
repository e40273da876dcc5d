import { expect, test } from "vitest";
import { SharedReads } from "../../src/platform/shared-reads.js";

/** Reads that end when they are told to; each answers its number. */
function openReads() {
  const ends: ((error?: Error) => void)[] = [];
  const reads = new SharedReads<string, number>((_key) => {
    const number = ends.length + 1;
    return new Promise((resolve, reject) => {
      ends.push((error) => (error ? reject(error) : resolve(number)));
    });
  });
  const turn = () => new Promise((resolve) => setImmediate(resolve));
  return { reads, ends, turn };
}

test("who comes while a read is under way shares the next one, which begins when it is over", async () => {
  const { reads, ends, turn } = openReads();
  const first = reads.read("a");
  await turn();
  const later = [reads.read("a"), reads.read("a")];
  await turn();
  expect(ends).toHaveLength(1);
  ends[0]?.();
  expect(await first).toBe(1);
  await turn();
  expect(ends).toHaveLength(2);
  ends[1]?.();
  expect(await Promise.all(later)).toEqual([2, 2]);
});

test("keys do not wait for each other, and a read that fails is nobody else's error", async () => {
  const { reads, ends, turn } = openReads();
  const failing = reads.read("a");
  const other = reads.read("b");
  await turn();
  expect(ends).toHaveLength(2);
  const next = reads.read("a");
  ends[0]?.(new Error("away"));
  await expect(failing).rejects.toThrow("away");
  await turn();
  ends[1]?.();
  ends[2]?.();
  expect(await Promise.all([other, next])).toEqual([2, 3]);
});
