import type { Config } from "../config.js";
import type { Clock } from "../platform/clock.js";
import type { FailureLog } from "../platform/failure-log.js";
import type { Logger } from "../platform/logger.js";
import type { QuotaOptions } from "../platform/quotas/quota-groups.js";
import type { RedisMode } from "../platform/telemetry/gate-metrics.js";
import { MemoryGate } from "../reservation/memory/memory-gate.js";
import type { Gate } from "../reservation/port.js";
import { RedisGate } from "../reservation/redis/redis-gate.js";

export interface GateInUse {
  readonly gate: Gate;
  redisMode(): RedisMode;
}

/** In Redis, or without one in this process. */
export async function openGate(
  config: Config,
  log: Logger,
  failures: FailureLog,
  options: QuotaOptions & { readonly clock: Clock },
): Promise<GateInUse> {
  if (!config.REDIS_URL) {
    log.warn("no REDIS_URL: reservations are kept in this process, so run only one");
    return { gate: new MemoryGate({ reservationMs: config.RESERVATION_MS, ...options }), redisMode: () => "none" };
  }
  const gate = new RedisGate({
    url: config.REDIS_URL.reveal(),
    settings: { ...config, REDIS_SENTINEL_PASSWORD: config.REDIS_SENTINEL_PASSWORD?.reveal() },
    keyPrefix: config.REDIS_KEY_PREFIX,
    failures,
    reservationMs: config.RESERVATION_MS,
    ...options,
  });
  if (!(await gate.ready())) log.warn("redis does not answer; requests go straight to postgres until it does");
  return { gate, redisMode: () => (gate.isAway ? "bypassed" : "used") };
}
