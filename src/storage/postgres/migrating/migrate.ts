import { readFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as pause } from "node:timers/promises";
import { type MigrationMeta, readMigrationFiles } from "drizzle-orm/migrator";
import { drizzle } from "drizzle-orm/postgres-js";
import type { Sql } from "postgres";
import { steadyMs } from "../../../platform/clock.js";
import { packageRoot } from "../../../platform/package-root.js";
import { causeOf } from "../errors.js";
import { primaryOf } from "../primary/await-primary.js";
import { openClient } from "../primary/server-state.js";
import { addColumns } from "./add-columns.js";
import { buildLargeIndexes } from "./large-indexes.js";
import { makeMonths, partitionEvents } from "./partition-events.js";
import { type MigrationLog, withPatience } from "./patient-ddl.js";
import { createFunctions, dropOldFunctions, hasFunctions, ownFunctions } from "./release-functions.js";

/** Any number that is ours: replicas that start together migrate one after the other. */
const advisoryLock = 7_106_118_001;
const maxWaitMs = 300_000;
const lockPauseMs = 200;
const quiet: MigrationLog = { info: () => {}, warn: () => {} };

/**
 * Brings the database up to date: the tables by the migrations in `drizzle/`, then the functions of this release (see
 * release-functions.ts), then what no single transaction can do: the partitions of events, and indexes of large tables. Safe to run from several replicas at once and again,
 * and beside replicas that serve. Answers what of that could not be done: without it everything is right, and slow.
 */
export function migrate(url: string, log: MigrationLog = quiet): Promise<readonly string[]> {
  return withClient(url, async (client) => {
    await waitForOthers(client, log);
    await runMigrations(client, log);
    await withPatience(client, "functions", () => createFunctions(client, ownFunctions(), log), log);
    await dropOldFunctions(client, log);
    const isPartitioned = await partitionEvents(client, log);
    await withPatience(client, "partitions by months", () => makeMonths(client), log);
    await client`SELECT pg_advisory_unlock(${advisoryLock}::bigint)`;
    const missing = await buildLargeIndexes(client, log);
    return [...missing.map((name) => `the index ${name}`), ...(isPartitioned ? [] : ["the partitions of events"])];
  });
}

/** As much of drizzle's own database as its migrator uses. */
interface Migrator {
  readonly session: unknown;
  readonly dialect: { migrate(migrations: MigrationMeta[], session: unknown, config: object): Promise<void> };
}

/**
 * The new columns of each table, and then each migration in a transaction of its own, where drizzle's migrator has one for all: that would
 * need the locks of all tables at once, and beside a replica under load begin again and again from the first one. Every migration
 * leaves tables that older releases can use.
 */
async function runMigrations(client: Sql, log: MigrationLog): Promise<void> {
  const { dialect, session } = drizzle(client) as unknown as Migrator;
  const last = await lastMigration(client);
  const isPending = ({ folderMillis }: MigrationMeta) => folderMillis > last;
  const pending = readMigrationFiles({ migrationsFolder: migrationsFolder() }).filter(isPending);
  if (pending.length === 0) return;
  await analyze(client);
  const tags = new Map(journal().map(({ tag, when }) => [when, tag]));
  for (const migration of await addColumns(client, pending, log)) {
    const what = `migration ${tags.get(migration.folderMillis)}`;
    await withPatience(client, what, () => dialect.migrate([migration], session, {}), log);
  }
}

/**
 * So that replicas of the release before plan anew what they planned while the tables were small, before anybody has to wait for a
 * lock: a function that reads a whole table holds its locks for longer with each row. Nobody waits for this; a table that is being vacuumed is left out.
 */
async function analyze(client: Sql): Promise<void> {
  const tables = await client<{ name: string }[]>`
    SELECT c.oid::regclass::text AS name FROM pg_class c
    WHERE c.relkind = 'r' AND c.relnamespace = 'public'::regnamespace AND pg_has_role(c.relowner, 'USAGE')`;
  if (tables.length > 0) await client.unsafe(`ANALYZE (SKIP_LOCKED) ${tables.map(({ name }) => name).join(", ")}`);
}

/** What a database lacks that this release needs. One that is ahead of this release is fine. */
export function whatIsMissing(url: string): Promise<readonly string[]> {
  return withClient(url, async (client) => {
    const missing: string[] = [];
    const last = await lastMigration(client);
    for (const { tag, when } of journal()) if (when > last) missing.push(`migration ${tag}`);
    const functions = ownFunctions();
    if (!(await hasFunctions(client, functions))) missing.push(`functions ${functions.schema}`);
    return missing;
  });
}

/** When the last one that the database has on record was made, in ms since 1970; 0: it has none. */
async function lastMigration(client: Sql): Promise<number> {
  const [table] = await client`SELECT to_regclass('drizzle.__drizzle_migrations') IS NOT NULL AS there`;
  if (!table?.there) return 0;
  const [last] = await client<{ at: string | null }[]>`SELECT max(created_at) AS at FROM drizzle.__drizzle_migrations`;
  return Number(last?.at ?? 0);
}

async function withClient<T>(url: string, work: (client: Sql) => Promise<T>): Promise<T> {
  const client = openClient(await primaryOf(url), {
    max: 1,
    connect_timeout: 10,
    onnotice: () => {},
    connection: {
      application_name: "coupon-service migrate",
      search_path: "public",
      // A migration takes as long as it takes, whatever the database or the role has set.
      statement_timeout: 0,
      idle_in_transaction_session_timeout: 0,
    },
  });
  try {
    return await work(client);
  } catch (error) {
    throw causeOf(error);
  } finally {
    await client.end({ timeout: 5 });
  }
}

/** Asks again and again: a statement that waits has a snapshot, for which the building of an index would wait. */
async function waitForOthers(client: Sql, log: MigrationLog): Promise<void> {
  const untilMs = steadyMs() + maxWaitMs;
  for (let isFirst = true; ; isFirst = false) {
    const [lock] = await client`SELECT pg_try_advisory_lock(${advisoryLock}::bigint) AS taken`;
    if (lock?.taken) return;
    if (steadyMs() > untilMs) throw new Error(`another replica has been migrating for ${maxWaitMs / 1000} s`);
    if (isFirst) log.info("another replica migrates; waiting for it");
    await pause(lockPauseMs);
  }
}

const migrationsFolder = () => join(packageRoot(), "drizzle");

function journal(): readonly { readonly tag: string; readonly when: number }[] {
  return JSON.parse(readFileSync(join(migrationsFolder(), "meta/_journal.json"), "utf8")).entries;
}
