import type { Config } from "../config.js";
import type { Logger } from "../platform/logger.js";
import { migrate, whatIsMissing } from "../storage/postgres/migrating/migrate.js";
import type { MigrationLog } from "../storage/postgres/migrating/patient-ddl.js";
import { awaitPrimary } from "../storage/postgres/primary/await-primary.js";

type Settings = Pick<Config, "MIGRATE" | "DATABASE_START_WAIT_MS"> & { readonly DATABASE_URL: string };

/** Before anything else uses the database. Throws when it is not what this release needs, and may not be made so. */
export async function prepareDatabase(settings: Settings, log: MigrationLog): Promise<void> {
  const { MIGRATE, DATABASE_URL, DATABASE_START_WAIT_MS } = settings;
  await awaitPrimary(DATABASE_URL, DATABASE_START_WAIT_MS, log);
  if (MIGRATE === "on") await migrate(DATABASE_URL, log);
  if (MIGRATE !== "check") return;
  const missing = await whatIsMissing(DATABASE_URL);
  if (missing.length === 0) return;
  throw new Error(
    `the database is not up to date: it lacks ${missing.join(", ")}. ` +
      "Run `npm run migrate` (in the image: `node dist/src/main.js migrate`) first, or start with MIGRATE=on",
  );
}

/** The command `migrate`. Throws when not all was done. */
export async function migrateOnly(settings: Omit<Settings, "MIGRATE">, log: Logger): Promise<void> {
  const { DATABASE_URL, DATABASE_START_WAIT_MS } = settings;
  await awaitPrimary(DATABASE_URL, DATABASE_START_WAIT_MS, log);
  const missing = await migrate(DATABASE_URL, log);
  if (missing.length > 0) {
    throw new Error(
      `all is migrated but ${missing.join(", ")}, which long transactions were in the way of: ` +
        "run this again when those have ended",
    );
  }
  log.info("the database is up to date");
}
