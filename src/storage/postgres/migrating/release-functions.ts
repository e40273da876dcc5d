import { createHash } from "node:crypto";
import { readdirSync, readFileSync } from "node:fs";
import { basename, join } from "node:path";
import { fileURLToPath } from "node:url";
import type { Sql } from "postgres";
import type { MigrationLog } from "./patient-ddl.js";

/**
 * The SQL functions of one release: those of the .sql files beside their callers, in a schema of their own, whose name
 * comes from what is in the files. So the replicas of two releases serve side by side, each with its own functions, whichever
 * of them started last. What is stored (tables, indexes, triggers, and the functions that triggers call) belongs to the migrations
 * and is in `public`; nothing that is stored may use a function of a release, for that goes when its release has gone.
 */
export interface ReleaseFunctions {
  readonly schema: string;
  /** In the order in which they are created. */
  readonly sources: readonly string[];
}

const schemaPrefix = "coupon_fn_";
const hashDigits = 12;
const schemaName = new RegExp(`^${schemaPrefix}[0-9a-f]{${hashDigits}}$`);
/** Any number that is ours: the first half of the advisory locks of the schemas. */
const lockClass = 7_106_118;
/** The newest ones always stay: that of the present release, and that of the one before, to which one may go back. */
const keptSchemas = 2;
/** The others stay for this long after a replica was last seen that uses them. */
const keptHours = 24;
/** How exactly it is known when a replica was last seen. */
const seenAgainMinutes = 10;

export function releaseOf(files: ReadonlyMap<string, string>): ReleaseFunctions {
  const sorted = [...files].sort(([a], [b]) => (a < b ? -1 : 1));
  const hash = createHash("sha256");
  for (const [name, source] of sorted) hash.update(`${name}\0${source}\0`);
  return {
    schema: `${schemaPrefix}${hash.digest("hex").slice(0, hashDigits)}`,
    sources: sorted.map(([, source]) => source),
  };
}

let own: ReleaseFunctions | undefined;

/** The functions of the release that is running. */
export function ownFunctions(): ReleaseFunctions {
  if (own) return own;
  const folder = fileURLToPath(new URL("..", import.meta.url));
  const paths = readdirSync(folder, { recursive: true, encoding: "utf8" }).filter((path) => path.endsWith(".sql"));
  own = releaseOf(new Map(paths.map((path) => [basename(path), readFileSync(join(folder, path), "utf8")])));
  return own;
}

/** Where a connection finds the functions of a release, and behind them the tables. */
export function searchPath({ schema }: ReleaseFunctions = ownFunctions()): string {
  return `${schema}, public`;
}

/** Creates the schema whole, if it is not there. The caller holds the lock under which replicas migrate one after the other. */
export async function createFunctions(
  client: Sql,
  { schema, sources }: ReleaseFunctions,
  log: MigrationLog,
): Promise<void> {
  const isNew = await client.begin(async (tx) => {
    await tx`
      CREATE TABLE IF NOT EXISTS public.function_schemas (
        name text PRIMARY KEY,
        created_at timestamptz NOT NULL DEFAULT now(),
        last_seen_at timestamptz NOT NULL DEFAULT now()
      )`;
    const [found] = await tx`SELECT FROM pg_namespace WHERE nspname = ${schema}`;
    if (!found) {
      // Everybody may use it, for its functions can do nothing that their caller cannot; the one that runs as its owner
      // (keep_months) sees to that itself.
      await tx.unsafe(`
        CREATE SCHEMA ${schema}; GRANT USAGE ON SCHEMA ${schema} TO PUBLIC; SET LOCAL search_path = ${schema}, public`);
      for (const source of sources) await tx.unsafe(source);
    }
    await tx`
      INSERT INTO public.function_schemas (name) VALUES (${schema}) ON CONFLICT (name) DO UPDATE SET last_seen_at = now()`;
    return !found;
  });
  if (isNew) log.info({ schema }, "created the SQL functions of this release");
}

/** Whether they are there. Whoever asks is seen, so that they stay until it holds their lock. */
export async function hasFunctions(client: Sql, { schema }: ReleaseFunctions): Promise<boolean> {
  const [table] = await client`SELECT to_regclass('public.function_schemas') IS NOT NULL AS there`;
  if (!table?.there) return false;
  const [found] = await client`
    UPDATE public.function_schemas SET last_seen_at = now()
    WHERE name = ${schema} AND EXISTS (SELECT FROM pg_namespace WHERE nspname = ${schema})
    RETURNING name`;
  return found !== undefined;
}

/**
 * Says on a connection that lives as long as its replica does that the functions are in use: by a lock, which ends with the
 * connection, and by the time, for a connection that was lost takes a moment to come back.
 */
export async function holdFunctions(client: Sql, { schema }: ReleaseFunctions = ownFunctions()): Promise<void> {
  await client`SELECT pg_advisory_lock_shared(${lockClass}::int, ${lockKey(schema)}::int)`;
  await client`
    UPDATE public.function_schemas SET last_seen_at = now()
    WHERE name = ${schema} AND last_seen_at < now() - make_interval(mins => ${seenAgainMinutes})`;
}

/** Drops the schemas of releases that have gone. What does not let itself be dropped stays, and stops nobody. */
export async function dropOldFunctions(client: Sql, log: MigrationLog): Promise<void> {
  const old = await client<{ name: string }[]>`
    SELECT name FROM (SELECT *, row_number() OVER (ORDER BY last_seen_at DESC, name) AS ordinal FROM public.function_schemas) s
    WHERE ordinal > ${keptSchemas} AND last_seen_at < now() - make_interval(hours => ${keptHours})`;
  for (const { name } of old) {
    try {
      if (await drop(client, name)) log.info({ schema: name }, "dropped the SQL functions of an earlier release");
    } catch (error) {
      log.warn({ err: error, schema: name }, "the SQL functions of an earlier release could not be dropped");
    }
  }
}

function drop(client: Sql, schema: string): Promise<boolean> {
  if (!schemaName.test(schema)) throw new Error(`${schema} is no name of ours`);
  return client.begin(async (tx) => {
    const [lock] = await tx`SELECT pg_try_advisory_xact_lock(${lockClass}::int, ${lockKey(schema)}::int) AS taken`;
    if (!lock?.taken) return false;
    // Somebody may have been seen meanwhile.
    const [gone] = await tx`
      DELETE FROM public.function_schemas WHERE name = ${schema} AND last_seen_at < now() - make_interval(hours => ${keptHours})
      RETURNING name`;
    if (!gone) return false;
    const functions = await tx<{ name: string }[]>`
      SELECT p.oid::regprocedure::text AS name
      FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace WHERE n.nspname = ${schema}`;
    // One by one, and never with CASCADE: what is stored and uses one, against the rules, keeps it.
    if (functions.length > 0) await tx.unsafe(`DROP FUNCTION ${functions.map(({ name }) => name).join(", ")}`);
    await tx.unsafe(`DROP SCHEMA IF EXISTS ${schema}`);
    return true;
  });
}

function lockKey(schema: string): number {
  return Number.parseInt(schema.slice(schemaPrefix.length, schemaPrefix.length + 8), 16) | 0;
}
