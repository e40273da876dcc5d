import { type Authenticator, type AuthFailures, Composed, off, type Way } from "../auth/authenticator.js";
import { Certificates, readCertificateNames } from "../auth/certificates.js";
import { type AuthWay, authWays, type Config } from "../config.js";
import type { Job } from "../jobs/job-loop.js";
import type { Logger } from "../platform/logger.js";
import { reloading } from "./reloading.js";

export interface AuthParts {
  readonly config: Config;
  readonly log: Logger;
  readonly failures: AuthFailures;
}

export interface Auth {
  readonly authenticator: Authenticator;
  /** What has to run by itself for that: files that others may exchange. */
  readonly reloads: readonly Job[];
}

const open: Partial<Record<AuthWay, (parts: AuthParts, reloads: Job[]) => Way>> = { certificates: openCertificates };

/** Who may call. Throws when it cannot be known at the start. */
export function openAuth(parts: AuthParts): Auth {
  const wanted = parts.config.AUTH ?? [];
  if (wanted.length === 0) return { authenticator: off, reloads: [] };
  const reloads: Job[] = [];
  // In the order of the list, whatever the order in AUTH.
  const ways = authWays.filter((way) => wanted.includes(way)).flatMap((way) => open[way]?.(parts, reloads) ?? []);
  return { authenticator: new Composed(ways, parts.failures), reloads };
}

const maxLoggedNames = 5;

function openCertificates({ config, log, failures }: AuthParts, reloads: Job[]): Way {
  const certificates = new Certificates(new Map(), (why, names) => {
    failures.authFailed("certificates", why);
    log.debug({ way: "certificates", why, names: names.slice(0, maxLoggedNames) }, "a certificate is nobody's");
  });
  const setting = "AUTH_CERTIFICATES_FILE";
  const files = [{ setting, path: config.AUTH_CERTIFICATES_FILE as string }];
  reloads.push(reloading("reload callers", log, files, ([text = ""]) => certificates.use(callersIn(setting, text))));
  return certificates;
}

function callersIn(setting: string, text: string) {
  try {
    return readCertificateNames(text);
  } catch (error) {
    throw new Error(`${setting}: ${(error as Error).message}`);
  }
}
