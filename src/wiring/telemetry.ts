import type { Config } from "../config.js";
import type { FailureLog } from "../platform/failure-log.js";
import type { Metrics } from "../platform/metrics.js";
import { packageVersion } from "../platform/package-root.js";
import { tracingOf } from "../platform/telemetry/settings.js";
import { openTracing, type Tracing } from "../platform/telemetry/tracing.js";
import { hashedUser, type NameUser, plainUser } from "../platform/telemetry/user-ids.js";

/** Coupons with series of their own, where nobody but the operator sees the metrics: elsewhere none, for ids are no one's business. */
const defaultShownCoupons = 10;

export interface Telemetry {
  /** Absent: calls are not traced. */
  readonly tracing: Tracing | undefined;
  readonly nameUser: NameUser;
}

/** How calls are seen: their traces, and what the log and the metrics tell of users and coupons. */
export async function openTelemetry(config: Config, metrics: Metrics, failures: FailureLog): Promise<Telemetry> {
  const { ADMIN_PORT, METRICS_COUPONS, LOG_USER_IDS_KEY } = config;
  metrics.gate.showCoupons(METRICS_COUPONS ?? (ADMIN_PORT === undefined ? 0 : defaultShownCoupons));
  const settings = tracingOf(config);
  if (settings) metrics.showTraces();
  const onExported = (...done: Parameters<Metrics["spansExported"]>) => metrics.spansExported(...done);
  return {
    tracing: settings && (await openTracing({ settings, version: packageVersion(), failures, onExported })),
    nameUser: config.LOG_USER_IDS === "hashed" && LOG_USER_IDS_KEY ? hashedUser(LOG_USER_IDS_KEY.reveal()) : plainUser,
  };
}
