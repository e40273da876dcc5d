import type { Config } from "../config.js";
import type { FailureLog } from "../platform/failure-log.js";
import type { Logger } from "../platform/logger.js";
import type { QuotaOptions } from "../platform/quota-groups.js";
import { MemoryReservations } from "../reservation/memory/memory-reservations.js";
import type { Reservations } from "../reservation/port.js";
import { RedisReservations } from "../reservation/redis/redis-reservations.js";

/** In Redis, or without one in this process. */
export async function openReservations(
  config: Config,
  log: Logger,
  failures: FailureLog,
  quotas: QuotaOptions,
): Promise<Reservations> {
  if (!config.REDIS_URL) {
    log.warn("no REDIS_URL: reservations are kept in this process, so run only one");
    return new MemoryReservations({ reservationMs: config.RESERVATION_MS, ...quotas });
  }
  const reservations = new RedisReservations({
    url: config.REDIS_URL,
    keyPrefix: config.REDIS_KEY_PREFIX,
    failures,
    reservationMs: config.RESERVATION_MS,
    ...quotas,
  });
  if (!(await reservations.ready())) log.warn("redis does not answer; requests go straight to postgres until it does");
  return reservations;
}
