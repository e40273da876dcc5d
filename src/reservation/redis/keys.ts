/**
 * Every key that exists in Redis. The coupon's id is the hash tag, so all keys of one coupon lie in one slot of a Redis
 * Cluster and one script may touch them all.
 */
export class Keys {
  constructor(private readonly prefix: string) {}

  /** Hash: revision, startsAtMs, expiresAtMs, paused, deleted, exhausted, maxPerUser, keepUntilMs, stock (absent: unlimited). */
  coupon(couponId: string): string {
    return `${this.prefix}:{${couponId}}:coupon`;
  }
  /** Hash, user id to entries `userCouponId US requestId US state US validUntilMs RS`; state P (pending), C (confirmed). */
  holders(couponId: string): string {
    return `${this.prefix}:{${couponId}}:holders`;
  }
  /** Sorted set, `userCouponId US userId US requestId` by the reservation's deadline in ms. */
  pending(couponId: string): string {
    return `${this.prefix}:{${couponId}}:pending`;
  }
  /** String, the token of the load under way. */
  loading(couponId: string): string {
    return `${this.prefix}:{${couponId}}:loading`;
  }
  /** Hash, the holders of a load under way. */
  stage(couponId: string): string {
    return `${this.prefix}:{${couponId}}:stage`;
  }
  /** List, confirmations that arrived during a load. */
  late(couponId: string): string {
    return `${this.prefix}:{${couponId}}:late`;
  }
  /** Hash: revision, remaining: the places that are left under the usage cap. */
  places(couponId: string): string {
    return `${this.prefix}:{${couponId}}:places`;
  }
  /** Sorted set, ids of usages that have taken a place and are not decided, by the reservation's deadline in ms. */
  taken(couponId: string): string {
    return `${this.prefix}:{${couponId}}:taken`;
  }
  /** Sorted set, ids of coupons that were loaded, by the time in ms at which they last were seen to be. */
  registry(): string {
    return `${this.prefix}:coupons`;
  }
}
