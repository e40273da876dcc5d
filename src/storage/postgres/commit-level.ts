import postgres from "postgres";

const connectTimeoutS = 10;

/**
 * When a COMMIT counts as done, given what the database has set. Nothing is acknowledged that a crash can take back: with
 * `off` it can, and with `local` a failover can. What is stronger, or says how far a standby must have come, stays.
 */
export function commitLevelFor(setting: string): string {
  return setting === "off" || setting === "local" ? "on" : setting;
}

/** Asks once, at the start: connections name the level themselves, so that what is set later changes nothing. */
export async function readCommitLevel(url: string): Promise<string> {
  const client = postgres(url, { max: 1, connect_timeout: connectTimeoutS, fetch_types: false, onnotice: () => {} });
  try {
    const [row] = await client<{ synchronous_commit: string }[]>`SHOW synchronous_commit`;
    return commitLevelFor((row as { synchronous_commit: string }).synchronous_commit);
  } finally {
    await client.end({ timeout: 1 });
  }
}
