import { freshKey } from "../auth/keys/key-text.js";
import { runKeysCommand } from "../commands/keys.js";
import type { Config } from "../config.js";
import type { Secret } from "../platform/secrets/secret.js";
import { type Database, openDatabase } from "../storage/postgres/database.js";
import { readCommitLevel } from "../storage/postgres/durability.js";
import { PostgresCallerStore } from "../storage/postgres/keys/caller-store.js";
import { PostgresKeyStore } from "../storage/postgres/keys/key-store.js";
import { leastPoolSize } from "../storage/postgres/pool-sizes.js";
import { prepareDatabase } from "./migrating.js";

type Settings = Pick<Config, "MIGRATE" | "DATABASE_DURABILITY" | "DATABASE_START_WAIT_MS">;

/**
 * The command `keys`, on the database itself: so the first key can be made, whose owner makes others. Answers the exit code. `databaseUrl`
 * is asked for by what works on the database: whoever only reads how the command is used needs none.
 */
export function keysCommand(
  args: readonly string[],
  config: Settings,
  databaseUrl: () => Promise<Secret>,
): Promise<number> {
  const say = (text: string) => void process.stderr.write(text);
  return runKeysCommand(args, {
    freshKey,
    out: (text) => void process.stdout.write(text),
    say,
    withKeys: (work) => withDatabase((database) => work(new PostgresKeyStore(database))),
    withCallers: (work) => withDatabase((database) => work(new PostgresCallerStore(database))),
  });

  async function withDatabase<T>(work: (database: Database) => Promise<T>): Promise<T> {
    // Standard output is for the key.
    const log = { info: () => {}, warn: (_: object, text?: string) => say(`coupon-service: ${text}\n`) };
    const DATABASE_URL = await databaseUrl();
    await prepareDatabase({ ...config, DATABASE_URL }, log as Parameters<typeof prepareDatabase>[1]);
    const url = DATABASE_URL.reveal();
    const synchronousCommit = await readCommitLevel(url, config.DATABASE_DURABILITY);
    const database = openDatabase({
      ...{ url, synchronousCommit, poolSize: leastPoolSize, applicationName: "coupon-service keys" },
    });
    try {
      return await work(database);
    } finally {
      await database.close();
    }
  }
}
