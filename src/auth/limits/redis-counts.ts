import { RateLimiterRedis } from "rate-limiter-flexible";
import { mostLimit } from "../../domain/caller-limits.js";
import { steadyMs } from "../../platform/clock.js";
import type { FailureLog } from "../../platform/failure-log.js";
import type { SharedCounts, Total } from "./shared-count.js";

/** After a failure Redis is not asked again for this long, so that no crowd asks one that is away. */
const restMs = 500;
export const sharing = "share the counts of callers by redis; each replica counts for itself";

export interface RedisCountsOptions {
  /** A client of ioredis, which neither queues nor repeats commands. */
  readonly client: unknown;
  /** First part of every key. */
  readonly prefix: string;
  /** Whole seconds. */
  readonly windowMs: number;
  readonly failures: Pick<FailureLog, "failed" | "succeeded">;
}

/** Counts of all replicas, kept in Redis: a number for each key, which goes when its window is over. */
export class RedisCounts implements SharedCounts {
  private readonly limiter: RateLimiterRedis;
  private restsUntilMs = Number.NEGATIVE_INFINITY;

  constructor(private readonly options: RedisCountsOptions) {
    this.limiter = new RateLimiterRedis({
      storeClient: options.client,
      // What is too many is not its business.
      points: mostLimit,
      keyPrefix: options.prefix,
      duration: options.windowMs / 1_000,
      rejectIfRedisNotReady: true,
    });
  }

  async add(key: string, count: number): Promise<Total | null> {
    const { failures } = this.options;
    if (steadyMs() < this.restsUntilMs) return null;
    try {
      const { consumedPoints, msBeforeNext } = await this.limiter.penalty(key, count);
      failures.succeeded(sharing);
      return { count: consumedPoints, leftMs: msBeforeNext };
    } catch (error) {
      this.restsUntilMs = steadyMs() + restMs;
      failures.failed(sharing, error);
      return null;
    }
  }
}
