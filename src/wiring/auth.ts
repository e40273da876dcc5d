import { type Authenticator, Composed, off, type Way } from "../auth/authenticator.js";
import { type AuthWay, authWays } from "../config.js";
import type { Job } from "../jobs/job-loop.js";
import { openCertificates } from "./certificates.js";
import { type JwtParts, openJwt } from "./jwt.js";

export type AuthParts = JwtParts;

export interface Auth {
  readonly authenticator: Authenticator;
  /** What has to run by itself for that. */
  readonly jobs: readonly Job[];
}

/** Of each way what opens it; what has to run for it is added to the jobs. */
const open: Partial<Record<AuthWay, (parts: AuthParts, jobs: Job[]) => Way | Promise<Way>>> = {
  jwt: openJwt,
  certificates: openCertificates,
};

/** Who may call. Throws when it cannot be known at the start. */
export async function openAuth(parts: AuthParts): Promise<Auth> {
  const wanted = parts.config.AUTH ?? [];
  if (wanted.length === 0) return { authenticator: off, jobs: [] };
  const jobs: Job[] = [];
  // In the order of the list, whatever the order in AUTH.
  const ways = authWays.filter((way) => wanted.includes(way)).map((way) => [way, open[way]] as const);
  const opened = ways.map(([way, openWay]) => {
    if (!openWay) throw new Error(`AUTH: ${way} cannot be asked for yet`);
    return openWay(parts, jobs);
  });
  return { authenticator: new Composed(await Promise.all(opened), parts.failures), jobs };
}
