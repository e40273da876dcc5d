import { anyRequest, maxGiven, requestHash, userHash } from "../packed-holdings.js";
import type { GateRequest } from "../port.js";

/** As packed holdings have it, in the place of more than can be told apart. */
const any = anyRequest.toString("hex", 2, 10);

/** Requests that had issued what their users hold no more, by the user's bucket: of each bucket so many as packed holdings have. */
export class Given {
  private readonly buckets = new Map<number, Set<string>>();

  constructor(private readonly bucketCount: number) {}

  /** `requestHash` "": there was no request id. */
  add(userId: string, requestHash: string): void {
    if (requestHash !== "") this.read(userHash(userId) % this.bucketCount, requestHash);
  }

  giveBack(request: GateRequest, wasConfirmed: boolean): void {
    this.add(request.userId, requestHash(request.requestId));
    if (!wasConfirmed) this.addBefore(request);
  }

  /** A user coupon that was given back before its confirmation came here: remembered like a request, by the end of its id. */
  addBefore({ userId, userCouponId }: GateRequest): void {
    this.add(userId, idEndOf(userCouponId));
  }

  /** Whether the confirmation of it that comes now was held up. */
  hasBefore({ userId, userCouponId }: GateRequest): boolean {
    return this.buckets.get(userHash(userId) % this.bucketCount)?.has(idEndOf(userCouponId)) ?? false;
  }

  /** Whether the request is one of them, or may be. */
  has(userId: string, requestHash: string): boolean {
    const known = this.buckets.get(userHash(userId) % this.bucketCount);
    return known !== undefined && requestHash !== "" && (known.has(requestHash) || known.has(any));
  }

  /** What a load has read. */
  read(bucket: number, requestHash: string): void {
    const known = this.buckets.get(bucket) ?? new Set();
    if (known.has(requestHash) || known.has(any)) return;
    const isFull = known.size >= maxGiven;
    this.buckets.set(bucket, isFull ? new Set([any]) : known.add(requestHash));
  }
}

function idEndOf(userCouponId: string): string {
  return userCouponId.replaceAll("-", "").slice(-16);
}
