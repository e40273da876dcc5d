import { randomFillSync } from "node:crypto";

/** Randomness is fetched for many numbers at once: a call for each of them takes ten times as long. */
const pool = Buffer.alloc(16_384);
let used = pool.length;

function take(bytes: number): number {
  if (used + bytes > pool.length) {
    randomFillSync(pool);
    used = 0;
  }
  used += bytes;
  return used - bytes;
}

/**
 * Whole numbers from 0 to less than `limit`, at most 2^32, each as likely as any other: what a larger range leaves over when
 * it is divided is drawn again.
 */
export function randomBelow(limit: number): number {
  const bytes = limit <= 0x100 ? 1 : 4;
  const range = 2 ** (8 * bytes);
  const even = range - (range % limit);
  for (;;) {
    const at = take(bytes);
    const drawn = bytes === 1 ? (pool[at] as number) : pool.readUInt32LE(at);
    if (drawn < even) return drawn % limit;
  }
}

/** From 0 to less than 1, in steps of 2^-52. */
export function randomFraction(): number {
  const at = take(8);
  return (pool.readUInt32LE(at) * 2 ** 20 + (pool.readUInt32LE(at + 4) >>> 12)) / 2 ** 52;
}
