import { CallerRates, rateWindowMs } from "../auth/limits/caller-rates.js";
import type { SharedCounts } from "../auth/limits/shared-count.js";
import { WrongCodes, wrongCodesWindowMs } from "../auth/limits/wrong-codes.js";
import type { Config } from "../config.js";
import { usualLimits } from "../domain/caller-limits.js";
import type { FailureLog } from "../platform/failure-log.js";
import type { Metrics } from "../platform/metrics.js";
import { type RedisSettings, redisServers } from "../platform/redis-servers.js";
import { openConnection, withoutArguments } from "../reservation/redis/connection.js";

/** Wrong codes of one user that have no consequence, where it is known who calls. */
const usualWrongCodes = 10;

export interface Limits {
  /** Absent: no caller is limited. */
  readonly rates?: CallerRates | undefined;
  /** Absent: nobody looks at wrong codes. */
  readonly wrongCodes?: WrongCodes | undefined;
  close(): void;
}

type LimitsConfig = Pick<Config, "AUTH" | "CALLER_LIMITS" | "MAX_WRONG_CODES" | "REDIS_KEY_PREFIX"> &
  Omit<RedisSettings, SecretName> &
  Pick<Config, SecretName>;
type SecretName = "REDIS_URL" | "REDIS_SENTINEL_PASSWORD";

/** What callers may ask for. Where nobody is asked who they are all are one caller: then limits are for who wants them. */
export async function openLimits(
  config: LimitsConfig,
  metrics: Pick<Metrics, "limitedCall">,
  failures: FailureLog,
): Promise<Limits> {
  const isAsked = (config.AUTH ?? []).length > 0;
  const { CALLER_LIMITS = isAsked ? usualLimits : "off", MAX_WRONG_CODES = isAsked ? usualWrongCodes : 0 } = config;
  if (CALLER_LIMITS === "off" && MAX_WRONG_CODES === 0) return { close: () => {} };
  const { shared, close } = await openShared(config, failures);
  return {
    rates:
      CALLER_LIMITS !== "off"
        ? new CallerRates({
            limits: CALLER_LIMITS,
            shared: shared("calls", rateWindowMs),
            onLimited: (kind, limit) => metrics.limitedCall(kind, limit),
          })
        : undefined,
    wrongCodes:
      MAX_WRONG_CODES > 0
        ? new WrongCodes({
            free: MAX_WRONG_CODES,
            shared: shared("wrong-codes", wrongCodesWindowMs),
            onLimited: (kind) => metrics.limitedCall(kind, "wrong_codes"),
          })
        : undefined,
    close,
  };
}

type OpenShared = (name: string, windowMs: number) => SharedCounts | undefined;

/** A connection of its own, so that what is counted never waits behind a large answer, nor holds one up. */
async function openShared(config: LimitsConfig, failures: FailureLog): Promise<{ shared: OpenShared; close(): void }> {
  if (!config.REDIS_URL) return { shared: () => undefined, close: () => {} };
  // Its library has stores of twenty kinds, and takes its time to load.
  const { RedisCounts, sharing } = await import("../auth/limits/redis-counts.js");
  const servers = redisServers({
    ...config,
    REDIS_URL: config.REDIS_URL.reveal(),
    REDIS_SENTINEL_PASSWORD: config.REDIS_SENTINEL_PASSWORD?.reveal(),
  });
  const connection = openConnection(servers, (error) => failures.failed(sharing, withoutArguments(error)));
  return {
    shared: (name, windowMs) =>
      new RedisCounts({
        client: connection.commands,
        prefix: `${config.REDIS_KEY_PREFIX}:${name}`,
        windowMs,
        failures: {
          failed: (work, error) => failures.failed(work, withoutArguments(error)),
          succeeded: (work) => failures.succeeded(work),
        },
      }),
    close: () => connection.close(),
  };
}
