import { hash } from "node:crypto";
import type { Holding } from "./port.js";

/**
 * How holdings are kept in few bytes. A million of them are read from Postgres, which packs them itself (`pack_holdings.sql`),
 * pass through here, and are unpacked again by `lua/parts/holdings.lua`: the three must agree.
 *
 * Users are spread over buckets by a hash of their ids. A bucket is what its users hold, one after the other:
 *
 *     2 bytes   the length of the user id in bytes, + 1,024: has a request id, + 2,048: has an end, + 4,096: is pending
 *               user id in UTF-8
 *     16 bytes  user coupon id
 *     8 bytes   the beginning of the SHA-256 of the request id, if there is one
 *     6 bytes   the end of its validity in ms since 1970, if it has one
 */
export interface HoldingBucket {
  readonly bucket: number;
  readonly packed: Uint8Array;
}

/** A holding without the request's id itself: only whether another one is the same can be said, and hardly ever wrongly. */
export interface PackedHolding extends Omit<Holding, "requestId"> {
  /** See `requestHash`. */
  readonly requestHash: string;
}

const withRequest = 1_024;
const withEnd = 2_048;
const idBytes = 16;
const requestHashBytes = 8;
const endBytes = 6;

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

/** As Postgres packs them. */
export function packHoldings(holdings: readonly Holding[], bucketCount = leastBuckets): HoldingBucket[] {
  const buckets = new Map<number, Buffer[]>();
  for (const holding of holdings) {
    const bucket = userHash(holding.userId) % bucketCount;
    const packed = buckets.get(bucket) ?? [];
    packed.push(pack(holding));
    buckets.set(bucket, packed);
  }
  return [...buckets].map(([bucket, packed]) => ({ bucket, packed: Buffer.concat(packed) }));
}

function pack({ userId, userCouponId, requestId, validUntil }: Holding): Buffer {
  const user = Buffer.from(userId);
  const head = Buffer.alloc(2);
  head.writeUInt16BE(user.length + (requestId === "" ? 0 : withRequest) + (validUntil ? withEnd : 0));
  const end = Buffer.alloc(validUntil ? endBytes : 0);
  if (validUntil) end.writeUIntBE(validUntil.getTime(), 0, endBytes);
  const hex = userCouponId.replaceAll("-", "") + requestHash(requestId);
  return Buffer.concat([head, user, Buffer.from(hex, "hex"), end]);
}

export function unpackHoldings({ packed }: HoldingBucket): PackedHolding[] {
  const bytes = Buffer.from(packed.buffer, packed.byteOffset, packed.byteLength);
  const holdings: PackedHolding[] = [];
  let at = 0;
  const take = (count: number) => {
    at += count;
    return bytes.subarray(at - count, at);
  };
  while (at < bytes.length) {
    const head = take(2).readUInt16BE();
    const userId = take(head % withRequest).toString();
    const id = take(idBytes).toString("hex");
    holdings.push({
      userId,
      userCouponId: id.replace(/(.{8})(.{4})(.{4})(.{4})(.{12})/, "$1-$2-$3-$4-$5"),
      requestHash: take(head & withRequest ? requestHashBytes : 0).toString("hex"),
      validUntil: head & withEnd ? new Date(take(endBytes).readUIntBE(0, endBytes)) : null,
    });
  }
  return holdings;
}
