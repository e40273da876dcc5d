import { randomUUID } from "node:crypto";
import type { Clock } from "../../platform/clock.js";
import type { QuotaGroups } from "../../platform/quotas/quota-groups.js";
import { userHash } from "../packed-holdings.js";
import { type GateFacts, keepEndedMs, type Loading, loadStepTimeoutMs } from "../port.js";
import type { RedisClient, RedisValue } from "./client.js";
import { batches } from "./fields.js";
import type { KeyOwner } from "./keys.js";
import type { Registry } from "./registry.js";
import { outcomeOf, scripts } from "./scripts.js";

/** How often a load tries to end while replicas of before buckets go on to let users through. */
const maxInstalls = 10;
/** Longer than a load lasts from there on. */
const keepHashesMs = 600_000;

/** Loads coupons, over a connection of their own: nobody's request waits behind their many bytes. */
export class Loader {
  constructor(
    private readonly client: RedisClient,
    private readonly quotaGroups: QuotaGroups,
    private readonly registry: Registry,
    private readonly clock: Clock,
    private readonly clockOffsetMs: () => number,
  ) {}

  /** null: another load of it is under way. */
  async begin(couponId: string): Promise<Loading | null> {
    const owner = { couponId, quotaGroup: await this.quotaGroups.of(couponId), day: "" };
    // So a replica that settles meanwhile knows that install counts what is given back, too: one of version 0.2 does not.
    const token = `2 ${randomUUID()}`;
    const step = [token, loadStepTimeoutMs];
    if (outcomeOf(scripts.loadBegin, await this.client.run(scripts.loadBegin, owner, step)) === "BUSY") return null;
    return {
      addHoldings: async (pages) => {
        // None: the load goes on all the same.
        for (const page of pages.length > 0 ? pages : [""]) {
          const answer = await this.client.run(scripts.loadHoldings, owner, [...step, page]);
          if (outcomeOf(scripts.loadHoldings, answer) === "LOST") return false;
        }
        return true;
      },
      install: async (facts) => {
        await this.registry.register(couponId);
        return await this.install(owner, this.installArgs(token, facts));
      },
    };
  }

  private async install(owner: KeyOwner, args: readonly RedisValue[]): Promise<boolean> {
    for (let tries = 1; tries <= maxInstalls; tries++) {
      const [answer, ...users] = (await this.client.run(scripts.loadInstall, owner, args)) as string[];
      const outcome = outcomeOf(scripts.loadInstall, answer);
      if (outcome !== "UNHASHED") return outcome === "INSTALLED";
      // A replica of before buckets has let them through.
      const key = this.client.keys.hashes(owner);
      for (const some of batches(users)) {
        const hashes = some.flatMap((userId) => [userId, userHash(userId)]);
        await this.client.call(key, (redis) => redis.hset(key, ...hashes));
      }
      await this.client.call(key, (redis) => redis.pexpire(key, keepHashesMs));
    }
    return false;
  }

  private installArgs(token: string, facts: GateFacts): RedisValue[] {
    return [
      token,
      this.clockOffsetMs(),
      Math.max(0, facts.expiresAt.getTime() - this.clock.nowMs()) + keepEndedMs,
      facts.revision,
      facts.startsAt.getTime(),
      facts.expiresAt.getTime(),
      facts.paused ? 1 : 0,
      facts.deleted ? 1 : 0,
      facts.exhausted ? 1 : 0,
      facts.maxPerUser,
      facts.stock ?? "",
      facts.throttle?.maxConcurrent ?? "",
      facts.throttle?.maxPerSecond ?? "",
      facts.throttle?.maxWaitMs ?? "",
      facts.quota?.maxPerDay ?? "",
      facts.bucketCount,
      facts.updatedAt.getTime(),
      facts.givenBackTotal,
    ];
  }
}
