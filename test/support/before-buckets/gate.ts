import { readFileSync } from "node:fs";
import type { Redis } from "ioredis";
import type { GateFacts, GateRequest, Holding, Settlement } from "../../../src/reservation/port.js";
import { Keys } from "../../../src/reservation/redis/keys.js";

const keysOf = {
  admit: ["coupon", "holders", "pending", "quota", "queue", "ended"],
  settle: ["coupon", "holders", "pending", "loading", "late", "quota", "queue", "ended"],
  load_holdings: ["loading", "stage"],
  load_install: ["loading", "stage", "late", "coupon", "holders", "pending", "ended"],
} as const;

/** What a replica of before buckets does in Redis: with its scripts, as they were. */
export class OlderGate {
  private readonly keys: Keys;

  constructor(
    private readonly redis: Redis,
    keyPrefix: string,
  ) {
    this.keys = new Keys(keyPrefix);
  }

  /** The first word that it is told. */
  async admit({ couponId, userCouponId, userId, requestId }: GateRequest): Promise<string> {
    const args = [0, 5_000, 0.05, 1_001, 3_600_000, userCouponId, userId, requestId, "", ""];
    const [answer] = (await this.run("admit", couponId, args)) as string[];
    return answer as string;
  }

  async settle(settlement: Settlement): Promise<void> {
    const { couponId, outcome, userCouponId, userId, requestId } = settlement;
    const validUntilMs = outcome === "CONFIRM" ? (settlement.validUntil?.getTime() ?? 0) : 0;
    await this.run("settle", couponId, [0, 0, 0, outcome, userCouponId, userId, requestId, validUntilMs]);
  }

  /** Whether it was installed. */
  async load(couponId: string, facts: GateFacts, holdings: readonly Holding[]): Promise<boolean> {
    await this.begin(couponId);
    return await this.install(couponId, facts, holdings);
  }

  /** Ends a load that was begun. */
  async install(couponId: string, facts: GateFacts, holdings: readonly Holding[]): Promise<boolean> {
    const entries = holdings.map(
      (one) => `${one.userCouponId}\x1f${one.requestId}\x1fC\x1f${one.validUntil?.getTime() ?? 0}\x1e`,
    );
    await this.run("load_holdings", couponId, [
      "older",
      5_000,
      ...holdings.flatMap((one, n) => [one.userId, entries[n]!]),
    ]);
    const { revision, maxPerUser, stock } = facts;
    const times = [facts.startsAt.getTime(), facts.expiresAt.getTime()];
    const args = ["older", 0, 600_000, revision, ...times, 0, 0, 0, maxPerUser, stock ?? "", "", "", "", ""];
    return (await this.run("load_install", couponId, args)) === "INSTALLED";
  }

  async begin(couponId: string): Promise<void> {
    const owner = { couponId, quotaGroup: null, day: "" };
    await this.redis.set(this.keys.loading(owner), "older", "PX", 5_000);
    await this.redis.unlink(this.keys.stage(owner), this.keys.late(owner));
  }

  private run(name: keyof typeof keysOf, couponId: string, args: readonly (string | number)[]): Promise<unknown> {
    const lua = readFileSync(new URL(`./${name}.lua`, import.meta.url), "utf8");
    const keys = keysOf[name].map((key) => this.keys[key]({ couponId, quotaGroup: null, day: "" }));
    return this.redis.eval(lua, keys.length, ...keys, ...args);
  }
}
