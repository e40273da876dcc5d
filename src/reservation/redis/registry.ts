import { BoundedCache } from "../../platform/bounded-cache.js";
import { type LookPauses, lookLeaseMs } from "../looks.js";
import { scriptBatchSize } from "./batcher.js";
import type { RedisClient } from "./client.js";
import { outcomeOf, scripts } from "./scripts.js";

/** Where what version 0.1 lists is looked for, and how much of it at once. */
const adoptEveryMs = 5_000;
const adoptLimit = 500;
/** Coupons that this process has announced lately, or must announce again. */
const maxAnnounced = 10_000;

export interface Claimed {
  readonly couponId: string;
  readonly claim: string;
  readonly calmLooks: number;
}

export interface Ended {
  readonly couponId: string;
  readonly claim: string;
  /** null: it is not looked at any more. */
  readonly pauseMs: number | null;
  readonly calmLooks: number;
}

/** When each coupon is looked at. Its keys lie in one slot, and no script that touches a coupon touches them. */
export class Registry {
  /** When this process last made a coupon due, by its own clock. */
  private readonly announced = new BoundedCache<number>(maxAnnounced);
  /** Those of which it is not known whether they are due, or whether what was sent after that will come yet. */
  private readonly doubtful = new Set<string>();
  private adoptAtMs = Number.NEGATIVE_INFINITY;

  constructor(
    private readonly client: RedisClient,
    private readonly pauses: Pick<LookPauses, "announceMs">,
    private readonly clockOffsetMs: () => number,
  ) {}

  /**
   * Makes a coupon due for a look, unless this process did so a moment ago. What is sent to Redis after this call comes
   * there later: so there is no reservation whose coupon is not looked at after its deadline. Never throws.
   */
  announce(couponId: string): void {
    const nowMs = this.nowMs();
    const before = this.announced.get(couponId);
    // A clock that went back is that of a test.
    if (before !== undefined && nowMs >= before && nowMs - before < this.pauses.announceMs) return;
    this.announced.set(couponId, nowMs);
    this.makeDue([couponId]).catch(() => this.doubt(couponId));
  }

  /** What was sent for this coupon may have come, or may come later. Its next look must not be long after that. */
  doubt(couponId: string): void {
    this.announced.delete(couponId);
    if (this.doubtful.size < maxAnnounced) this.doubtful.add(couponId);
  }

  /** Before a coupon becomes known: one that is known and not registered would stay for long after its last caller. */
  async register(couponId: string): Promise<void> {
    outcomeOf(scripts.listLooks, await this.client.run(scripts.listLooks, nobody, [this.clockOffsetMs(), couponId]));
  }

  async claim(limit: number): Promise<Claimed[]> {
    await this.announceDoubtful();
    await this.adopt();
    const args = [this.clockOffsetMs(), lookLeaseMs, limit];
    const [outcome, ...rest] = (await this.client.run(scripts.claimLooks, nobody, args)) as [string, ...string[]];
    outcomeOf(scripts.claimLooks, outcome);
    const claimed: Claimed[] = [];
    for (let at = 0; at < rest.length; at += 3) {
      claimed.push({
        couponId: rest[at] as string,
        claim: rest[at + 1] as string,
        calmLooks: Number(rest[at + 2]),
      });
    }
    return claimed;
  }

  async end(ended: readonly Ended[]): Promise<void> {
    for (let at = 0; at < ended.length; at += scriptBatchSize) {
      const args = ended
        .slice(at, at + scriptBatchSize)
        .flatMap(({ couponId, claim, pauseMs, calmLooks }) => [couponId, claim, pauseMs ?? "", calmLooks]);
      outcomeOf(scripts.endLooks, await this.client.run(scripts.endLooks, nobody, [this.clockOffsetMs(), ...args]));
    }
  }

  /** Every coupon that is registered, in a lasting order. */
  async all(): Promise<string[]> {
    const { keys } = this.client;
    const lists = await Promise.all(
      [keys.looks(), keys.registry()].map((key) => this.client.call(key, (redis) => redis.zrange(key, "0", "-1"))),
    );
    return [...new Set(lists.flat())].sort();
  }

  private nowMs(): number {
    return performance.now() + this.clockOffsetMs();
  }

  private async makeDue(couponIds: readonly string[]): Promise<void> {
    const members = couponIds.flatMap((id) => ["0", id]);
    const looks = this.client.keys.looks();
    await this.client.call(looks, (redis) => redis.call("zadd", looks, "LT", ...members));
  }

  private async announceDoubtful(): Promise<void> {
    if (this.doubtful.size === 0) return;
    const ids = [...this.doubtful];
    await this.makeDue(ids);
    for (const id of ids) this.doubtful.delete(id);
  }

  /** Seldom, for that there are replicas of version 0.1 is seldom, too. A later version does not look for them any more. */
  private async adopt(): Promise<void> {
    if (this.nowMs() < this.adoptAtMs) return;
    const args = [this.clockOffsetMs(), adoptLimit];
    const [outcome, count] = (await this.client.run(scripts.adoptLooks, nobody, args)) as [string, number];
    outcomeOf(scripts.adoptLooks, outcome);
    if (count < adoptLimit) this.adoptAtMs = this.nowMs() + adoptEveryMs;
  }
}

/** The registry's keys are no coupon's. */
const nobody = { couponId: "", quotaGroup: null, day: "" };
