import { primaryOf } from "./primary/await-primary.js";
import { openClient } from "./primary/server-state.js";

const connectTimeoutS = 10;

interface Found {
  readonly fsync: string;
  readonly full_page_writes: string;
  readonly synchronous_commit: string;
}

/** Whether a server is good enough that writes to its disk without care. */
export type Durability = "required" | "off";

/**
 * When a COMMIT counts as done, given what the database has set. Nothing is acknowledged that a crash can take back: with
 * `off` it can, and with `local` a failover can. What is stronger, or says how far a standby must have come, stays.
 */
export function commitLevelFor(setting: string): string {
  return setting === "off" || setting === "local" ? "on" : setting;
}

/**
 * Asks once, at the start, and answers the level that connections name themselves, so that what is set later changes nothing.
 * Throws when the server may lose what was committed, or its tables, in a crash: no connection can name that otherwise.
 */
export async function readCommitLevel(url: string, durability: Durability = "required"): Promise<string> {
  const client = openClient(await primaryOf(url), {
    ...{ max: 1, connect_timeout: connectTimeoutS, fetch_types: false, onnotice: () => {} },
  });
  try {
    const [row] = await client<[Found]>`
      SELECT current_setting('fsync') AS fsync, current_setting('full_page_writes') AS full_page_writes,
        current_setting('synchronous_commit') AS synchronous_commit`;
    const careless = (["fsync", "full_page_writes"] as const).filter((name) => row[name] === "off");
    if (durability === "required" && careless.length > 0) {
      throw new Error(
        `Postgres runs with ${careless.join(" and ")} off: a crash of its machine can take back what was acknowledged. ` +
          "Switch it on, or say with DATABASE_DURABILITY=off that this is wanted",
      );
    }
    return commitLevelFor(row.synchronous_commit);
  } finally {
    await client.end({ timeout: 1 });
  }
}
