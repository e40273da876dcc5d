import type { Config } from "../config.js";
import type { Logger } from "../platform/logger.js";
import type { Secret } from "../platform/secrets/secret.js";
import { migrate, whatIsMissing } from "../storage/postgres/migrating/migrate.js";
import type { MigrationLog } from "../storage/postgres/migrating/patient-ddl.js";
import { awaitPrimary } from "../storage/postgres/primary/await-primary.js";

type Settings = Pick<Config, "MIGRATE" | "DATABASE_START_WAIT_MS"> & { readonly DATABASE_URL: Secret };

/** Before anything else uses the database. Throws when it is not what this release needs, and may not be made so. */
export async function prepareDatabase(settings: Settings, log: MigrationLog): Promise<void> {
  const { MIGRATE, DATABASE_START_WAIT_MS } = settings;
  const url = settings.DATABASE_URL.reveal();
  await awaitPrimary(url, DATABASE_START_WAIT_MS, log);
  if (MIGRATE === "on") await migrate(url, log);
  if (MIGRATE !== "check") return;
  const missing = await whatIsMissing(url);
  if (missing.length === 0) return;
  throw new Error(
    `the database is not up to date: it lacks ${missing.join(", ")}. ` +
      "Run `npm run migrate` (in the image: `node dist/src/main.js migrate`) first, or start with MIGRATE=on",
  );
}

/** The command `migrate`. Throws when not all was done. */
export async function migrateOnly(settings: Omit<Settings, "MIGRATE">, log: Logger): Promise<void> {
  const url = settings.DATABASE_URL.reveal();
  await awaitPrimary(url, settings.DATABASE_START_WAIT_MS, log);
  const missing = await migrate(url, log);
  if (missing.length > 0) {
    throw new Error(
      `all is migrated but ${missing.join(", ")}, which long transactions were in the way of: ` +
        "run this again when those have ended",
    );
  }
  log.info("the database is up to date");
}
