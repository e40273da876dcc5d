/** Whose keys are meant. */
export interface KeyOwner {
  readonly couponId: string;
  /** null: the coupon has no quota. */
  readonly quotaGroup: string | null;
  /** The quota's day, where one matters. */
  readonly day: string;
}

/** What of a key a Redis Cluster looks at to find its slot: keys of which this is the same lie together. */
export function slotTextOf(key: string): string {
  return /^[^{]*\{([^}]+)\}/.exec(key)?.[1] ?? key;
}

/**
 * Every key that exists in Redis. The hash tag is the coupon's id, so all keys of one coupon lie in one slot of a Redis
 * Cluster and one script may touch them all. With a quota it is the quota group, which all coupons of the group share.
 */
export class Keys {
  constructor(private readonly prefix: string) {}

  /**
   * Hash: revision, startsAtMs, expiresAtMs, paused, deleted, exhausted, maxPerUser, keepUntilMs, stock (absent: unlimited),
   * maxConcurrent, maxPerSecond, maxWaitMs (absent: not throttled), quotaPerDay (absent: no quota). Where holdings are packed
   * it has opensAtMs instead of startsAtMs, and bucketCount; and keepUntilMs is 1, see load_install.lua. updatedAtMs and heard (see
   * lua/parts/heard.lua) are absent where a replica of version 0.2 has loaded it.
   */
  coupon(owner: KeyOwner): string {
    return this.of(owner, "coupon");
  }
  /** Hash, what users hold: see lua/parts/holdings.lua. */
  holders(owner: KeyOwner): string {
    return this.of(owner, "holders");
  }
  /** Sorted set, `userCouponId US userId US requestId` by the reservation's deadline in ms. */
  pending(owner: KeyOwner): string {
    return this.of(owner, "pending");
  }
  /** String, the token of the load under way. */
  loading(owner: KeyOwner): string {
    return this.of(owner, "loading");
  }
  /** Hash, the holdings of a load under way, as in `holders`. */
  stage(owner: KeyOwner): string {
    return this.of(owner, "stage");
  }
  /** List, what was confirmed and given back during a load, four values each. */
  late(owner: KeyOwner): string {
    return this.of(owner, "late");
  }
  /** Hash, user id to `userHash`, of all in `pending` and `late` that replicas of ours have put there. */
  hashes(owner: KeyOwner): string {
    return this.of(owner, "hashes");
  }
  /**
   * Hash: next (the first free ticket), behind (how far the queue's clock is behind ours), in ms. Older replicas know it
   * by the name `line`.
   */
  queue(owner: KeyOwner): string {
    return this.of(owner, "line");
  }
  /** List, when reservations of a throttled coupon ended, in ms, the latest first. */
  ended(owner: KeyOwner): string {
    return this.of(owner, "ended");
  }
  /** Hash, user id to entries `userCouponId US state RS` of one quota group and day; states as for holdings. */
  quota(owner: KeyOwner): string {
    const { quotaGroup, day } = owner;
    return quotaGroup === null ? this.of(owner, "quota") : `${this.prefix}:{q:${quotaGroup}}:quota:${day}`;
  }
  /** Hash: revision, remaining: the places that are left under the usage cap. */
  places(owner: KeyOwner): string {
    return this.of(owner, "places");
  }
  /** Sorted set, ids of usages that have taken a place and are not decided, by the reservation's deadline in ms. */
  taken(owner: KeyOwner): string {
    return this.of(owner, "taken");
  }
  /**
   * Sorted set, ids of coupons by the time in ms at which they are due for a look; 0: at once. The fraction counts, in
   * 64ths, the looks that found the coupon calm. It lies in the slot of `registry`, so one script may touch both.
   */
  looks(): string {
    return `${this.prefix}:{${this.registry()}}:looks`;
  }
  /**
   * Sorted set, ids of coupons that were loaded: what replicas of version 0.1 sweep, at the time in ms at which these last
   * saw them, or, written by us, a day after that. A later version drops it.
   */
  registry(): string {
    return `${this.prefix}:coupons`;
  }

  private of({ couponId, quotaGroup }: KeyOwner, name: string): string {
    return quotaGroup === null
      ? `${this.prefix}:{${couponId}}:${name}`
      : `${this.prefix}:{q:${quotaGroup}}:${couponId}:${name}`;
  }
}
