import { randomFillSync } from "node:crypto";
import { v7 } from "uuid";

const idBytes = 16;
/** Randomness is fetched for many ids at once: one by one, that was 5% of an issue. */
const pool = new Uint8Array(idBytes * 512);
let used = pool.length;

/** No id is greater: a list without a page before it begins here. */
export const greatestId = "ffffffff-ffff-ffff-ffff-ffffffffffff";

const uuid = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i;

/** As callers write one: in small or capital letters. */
export function isUuid(text: string): boolean {
  return uuid.test(text);
}

/** When an id was made, in ms since 1970. */
export function timeOf(id: string): number {
  return Number.parseInt(id.slice(0, 8) + id.slice(9, 13), 16);
}

/** A UUIDv7 of this time: unique, and in the order of their times to the millisecond. Those of all replicas are by one clock. */
export function newId(ms: number): string {
  if (used === pool.length) {
    randomFillSync(pool);
    used = 0;
  }
  used += idBytes;
  return v7({ msecs: ms, random: pool.subarray(used - idBytes, used) });
}
