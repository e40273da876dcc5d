import { type Authenticator, Composed, off, type Way } from "../auth/authenticator.js";
import { KeyAuthenticator } from "../auth/keys/key-authenticator.js";
import { KeyCopy } from "../auth/keys/key-copy.js";
import { type AuthWay, authWays } from "../config.js";
import type { Job } from "../jobs/job-loop.js";
import { openCertificates } from "./certificates.js";
import type { JwtParts } from "./jwt.js";
import type { Stores } from "./stores.js";

export interface AuthParts extends JwtParts {
  readonly stores: Pick<Stores, "keys">;
}

export interface Auth {
  readonly authenticator: Authenticator;
  /** What has to run by itself for that. */
  readonly jobs: readonly Job[];
  /** Resolves when this replica knows the keys as they were committed before, or when it has waited for too long. */
  readonly catchUp: (deadlineMs: number) => Promise<void>;
}

/** What the ways need beside themselves. */
interface Opened {
  readonly jobs: Job[];
  keys?: KeyCopy;
}

/** Of each way what opens it; what it needs beside that is added to what is opened. */
const open: Record<AuthWay, (parts: AuthParts, opened: Opened) => Way | Promise<Way>> = {
  keys: openKeys,
  // Loaded only here: whoever takes no tokens has no use for it.
  jwt: async (parts) => await (await import("./jwt.js")).openJwt(parts),
  certificates: (parts, { jobs }) => openCertificates(parts, jobs),
};

/** Who may call. Throws when it cannot be known at the start. */
export async function openAuth(parts: AuthParts): Promise<Auth> {
  const wanted = parts.config.AUTH ?? [];
  if (wanted.length === 0) return { authenticator: off, jobs: [], catchUp: async () => {} };
  const opened: Opened = { jobs: [] };
  // In the order of the list, whatever the order in AUTH.
  const ways = authWays.filter((way) => wanted.includes(way)).map((way) => open[way](parts, opened));
  const authenticator = new Composed(await Promise.all(ways), parts.failures);
  const catchUp = async (deadlineMs: number) => opened.keys?.catchUp(deadlineMs);
  return { authenticator, jobs: opened.jobs, catchUp };
}

async function openKeys({ stores, clock, failures, log }: AuthParts, opened: Opened): Promise<Way> {
  const keys = new KeyCopy(stores.keys);
  await keys.run().catch((error) => {
    // Those that it has read it knows; the job goes on to say what is wrong.
    if (keys.size === 0) throw error;
  });
  opened.jobs.push(keys);
  opened.keys = keys;
  return new KeyAuthenticator({ keys, clock, failures, log });
}
