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

type Settings = Pick<Config, "MIGRATE" | "DATABASE_DURABILITY" | "DATABASE_START_WAIT_MS"> & {
  readonly DATABASE_URL: Secret;
};

/** The command `keys`, on the database itself: so the first key can be made, whose owner makes others. Answers the exit code. */
export function keysCommand(args: readonly string[], config: Settings): Promise<number> {
  const { DATABASE_DURABILITY } = config;
  const url = config.DATABASE_URL.reveal();
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
    await prepareDatabase(config, log as Parameters<typeof prepareDatabase>[1]);
    const synchronousCommit = await readCommitLevel(url, DATABASE_DURABILITY);
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
