import type { Config } from "../../config.js";
import type { Job } from "../../jobs/job-loop.js";
import type { Logger } from "../../platform/logger.js";
import type { Metrics } from "../../platform/metrics.js";
import type { ArrivalDeadlines } from "../../transport/messages/arrival-deadlines.js";
import { Tls } from "../../transport/tls/tls.js";
import { reloading } from "../reloading.js";

/** What both ports speak; undefined: plain text. The job looks whether the files were exchanged. */
export function openTls(
  config: Config,
  deadlines: ArrivalDeadlines,
  metrics: Metrics,
  log: Logger,
): { readonly tls?: Tls; readonly reloads: readonly Job[] } {
  const { TLS_CERT_FILE, TLS_KEY_FILE, TLS_CLIENT_CA_FILE } = config;
  if (!TLS_CERT_FILE || !TLS_KEY_FILE) return { reloads: [] };
  const tls = new Tls({
    minVersion: config.TLS_MIN_VERSION,
    certificatesAreRequired: config.AUTH?.join() === "certificates",
    deadlines,
    onFailure: (why, error) => {
      metrics.handshakeFailed(why);
      log.debug({ why, err: error }, "no TLS");
    },
  });
  const files = [
    { setting: "TLS_CERT_FILE", path: TLS_CERT_FILE },
    { setting: "TLS_KEY_FILE", path: TLS_KEY_FILE },
    ...(TLS_CLIENT_CA_FILE ? [{ setting: "TLS_CLIENT_CA_FILE", path: TLS_CLIENT_CA_FILE }] : []),
  ];
  const job = reloading("reload TLS files", log, files, ([certificate = "", key = "", clientCa]) => {
    const { certificateMs, clientCaMs } = tls.use({ certificate, key, clientCa });
    if (certificateMs < Date.now()) log.error({ file: TLS_CERT_FILE }, "the certificate of TLS_CERT_FILE has ended");
    metrics.certificateEndsAt("TLS_CERT_FILE", certificateMs);
    if (clientCaMs !== undefined) metrics.certificateEndsAt("TLS_CLIENT_CA_FILE", clientCaMs);
  });
  return { tls, reloads: [job] };
}
