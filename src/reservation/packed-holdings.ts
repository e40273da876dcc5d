import { hash } from "node:crypto";
import type { Holding } from "./port.js";

/**
 * How holdings are kept in few bytes. A million of them are read from Postgres, which packs them itself (`pack_holdings.sql`),
 * are put into buckets (`bucket-sort.ts`), and are unpacked again by `lua/parts/holdings.lua`: all must agree.
 *
 * Users are spread over buckets by a hash of their ids. A bucket is what its users hold, one after the other:
 *
 *     2 bytes   the length of the user id in bytes, + 1,024: has a request id, + 2,048: has an end, + 4,096: is pending
 *               user id in UTF-8
 *     16 bytes  user coupon id
 *     8 bytes   the beginning of the SHA-256 of the request id, if there is one
 *     6 bytes   the end of its validity in ms since 1970, if it has one
 *
 * Among them are entries of nobody, whose user id has no bytes: requests that had issued what their users do not hold any
 * more. In the place of a user coupon's id these have the hash of the request, and 8 bytes of 0. Releases that do not know them pass
 * them over.
 */

/**
 * What a load hands on: some buckets, at most `bucketsPerPage` of them, one after the other. Of each there is its number and the
 * length of what it holds, four bytes each, and then that.
 */
export type HoldingPage = Buffer;
/** Redis takes them in one script call, and does nothing else for a millisecond. A power of two. */
export const bucketsPerPage = 256;
export const bucketHeadBytes = 8;

/** A holding without the request's id itself: only whether another one is the same can be said, and hardly ever wrongly. */
export interface PackedHolding extends Omit<Holding, "requestId"> {
  /** See `requestHash`. */
  readonly requestHash: string;
}

const withRequest = 1_024;
const withEnd = 2_048;
const headBytes = 2;
const idBytes = 16;
const requestHashBytes = 8;
const endBytes = 6;
/** Of a user's hash, which stands before each holding that Postgres hands over. */
export const userHashBytes = 3;

/** In a bucket there are so many entries of nobody at most. In the place of more there is one that stands for any request. */
export const maxGiven = 256;
export const anyRequest = Buffer.concat([Buffer.alloc(headBytes), Buffer.alloc(8, 0xff), Buffer.alloc(8)]);

/** So many holdings share a bucket where there are many: the more, the less memory, and the longer each change of one. */
const holdingsPerBucket = 8;
/** A coupon is not loaded anew because it grows: with these, its first 250,000 holdings change nothing. */
export const leastBuckets = 32_768;
const mostBuckets = 4_194_304;

/** How many buckets so many holdings have. A power of two. */
export function bucketCountFor(holdings: number): number {
  let count = leastBuckets;
  while (count < mostBuckets && count * holdingsPerBucket < holdings) count *= 2;
  return count;
}

/** 24 bits, of which the lower ones name the user's bucket. */
export function userHash(userId: string): number {
  return Number.parseInt(hash("sha256", userId).slice(0, 6), 16);
}

/** 16 hexadecimal digits; "": there is no request id. */
export function requestHash(requestId: string): string {
  return requestId === "" ? "" : hash("sha256", requestId).slice(0, requestHashBytes * 2);
}

/** Of the entry that begins there. */
export function entryLength(bytes: Uint8Array, at: number): number {
  const head = ((bytes[at] as number) << 8) | (bytes[at + 1] as number);
  return (
    headBytes +
    (head % withRequest) +
    idBytes +
    (head & withRequest ? requestHashBytes : 0) +
    (head & withEnd ? endBytes : 0)
  );
}

/** Whether the entry that begins there has no user. */
export function isOfNobody(bytes: Uint8Array, at: number): boolean {
  return bytes[at] === 0 && bytes[at + 1] === 0;
}

/** As a load packs them. `given`: what users held once. */
export function packHoldings(
  holdings: readonly Holding[],
  bucketCount = leastBuckets,
  given: readonly Pick<Holding, "userId" | "requestId">[] = [],
): HoldingPage[] {
  const buckets = new Map<number, Buffer[]>();
  const add = (userId: string, entry: Buffer) => {
    const bucket = userHash(userId) % bucketCount;
    const packed = buckets.get(bucket) ?? [];
    packed.push(entry);
    buckets.set(bucket, packed);
  };
  for (const holding of holdings) add(holding.userId, pack(holding));
  for (const { userId, requestId } of given) add(userId, packGiven(requestId));
  const framed = [...buckets].map(([bucket, entries]) => {
    const packed = Buffer.concat(entries);
    const head = Buffer.alloc(bucketHeadBytes);
    head.writeUInt32BE(bucket);
    head.writeUInt32BE(packed.length, 4);
    return Buffer.concat([head, packed]);
  });
  const pages: HoldingPage[] = [];
  for (let at = 0; at < framed.length; at += bucketsPerPage) {
    pages.push(Buffer.concat(framed.slice(at, at + bucketsPerPage)));
  }
  return pages;
}

function pack({ userId, userCouponId, requestId, validUntil }: Holding): Buffer {
  const user = Buffer.from(userId);
  const head = Buffer.alloc(headBytes);
  head.writeUInt16BE(user.length + (requestId === "" ? 0 : withRequest) + (validUntil ? withEnd : 0));
  const end = Buffer.alloc(validUntil ? endBytes : 0);
  if (validUntil) end.writeUIntBE(validUntil.getTime(), 0, endBytes);
  const hex = userCouponId.replaceAll("-", "") + requestHash(requestId);
  return Buffer.concat([head, user, Buffer.from(hex, "hex"), end]);
}

function packGiven(requestId: string): Buffer {
  const entry = Buffer.alloc(headBytes + idBytes);
  entry.write(requestHash(requestId), headBytes, "hex");
  return entry;
}

/** Entries of nobody have the user "", no user coupon, and the request. */
export function unpackHoldings(page: HoldingPage): (PackedHolding & { bucket: number })[] {
  const holdings: (PackedHolding & { bucket: number })[] = [];
  let at = 0;
  const take = (count: number) => {
    at += count;
    return page.subarray(at - count, at);
  };
  while (at < page.length) {
    const bucket = take(4).readUInt32BE();
    const length = take(4).readUInt32BE();
    for (const end = at + length; at < end; ) {
      const head = take(headBytes).readUInt16BE();
      const userId = take(head % withRequest).toString();
      const id = take(idBytes).toString("hex");
      if (userId === "") {
        const ofRequest = { requestHash: id.slice(0, requestHashBytes * 2), validUntil: null };
        holdings.push({ bucket, userId, userCouponId: "", ...ofRequest });
        continue;
      }
      holdings.push({
        bucket,
        userId,
        userCouponId: id.replace(/(.{8})(.{4})(.{4})(.{4})(.{12})/, "$1-$2-$3-$4-$5"),
        requestHash: take(head & withRequest ? requestHashBytes : 0).toString("hex"),
        validUntil: head & withEnd ? new Date(take(endBytes).readUIntBE(0, endBytes)) : null,
      });
    }
  }
  return holdings;
}
