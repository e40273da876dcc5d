import { type Authenticator, Composed, off, type Way } from "../auth/authenticator.js";
import { KeyAuthenticator } from "../auth/keys/key-authenticator.js";
import { KeyCopy } from "../auth/keys/key-copy.js";
import { type AuthWay, authWays } from "../config.js";
import type { Job } from "../jobs/job-loop.js";
import { type JwtParts, openJwt } from "./jwt.js";
import type { Stores } from "./stores.js";

export interface AuthParts extends JwtParts {
  readonly stores: Pick<Stores, "keys">;
  /** What has to run by itself is added to these. */
  readonly jobs: Job[];
}

const open: Partial<Record<AuthWay, (parts: AuthParts) => Promise<Way>>> = { keys: openKeys, jwt: openJwt };

/** Who may call. Throws when it cannot be known at the start. */
export async function openAuth(parts: AuthParts): Promise<Authenticator> {
  const wanted = parts.config.AUTH ?? [];
  if (wanted.length === 0) return off;
  // In the order of the list, whatever the order in AUTH.
  const ways = authWays.filter((way) => wanted.includes(way)).map((way) => [way, open[way]] as const);
  const opened = ways.map(([way, openWay]) => {
    if (!openWay) throw new Error(`AUTH: ${way} cannot be asked for yet`);
    return openWay(parts);
  });
  return new Composed(await Promise.all(opened), parts.failures);
}

async function openKeys({ stores, jobs, clock, failures, log }: AuthParts): Promise<Way> {
  const keys = new KeyCopy(stores.keys);
  await keys.run().catch((error) => {
    // Those that it has read it knows; the job goes on to say what is wrong.
    if (keys.size === 0) throw error;
  });
  jobs.push(keys);
  return new KeyAuthenticator({ keys, clock, failures, log });
}
