import { createHash } from "node:crypto";
import { readdirSync, readFileSync } from "node:fs";
import { basename, join } from "node:path";
import { fileURLToPath } from "node:url";
import { drizzle } from "drizzle-orm/postgres-js";
import { migrate as runMigrations } from "drizzle-orm/postgres-js/migrator";
import postgres, { type Sql } from "postgres";
import { packageRoot } from "../../platform/package-root.js";
import { buildLargeIndexes } from "./large-indexes.js";

/** Any number that is ours: replicas that start together migrate one after the other. */
const advisoryLock = 7_106_118_001;
const lockWaitMs = 60_000;
/** SQLSTATE: the function is there with another result type or other names, so it must be dropped first. */
const cannotReplace = "42P13";

/**
 * Brings the database up to date: the tables by the migrations in `drizzle/`, then the functions in the .sql files beside
 * their callers, which are replaced whenever one has changed, then the indexes that no transaction can build. Safe to run from several replicas at once and again.
 */
export async function migrate(url: string): Promise<void> {
  const client = postgres(url, { max: 1, connect_timeout: 10, onnotice: () => {} });
  try {
    await client.unsafe(`SET lock_timeout = ${lockWaitMs}`);
    await client`SELECT pg_advisory_lock(${advisoryLock}::bigint)`;
    await runMigrations(drizzle(client), { migrationsFolder: join(packageRoot(), "drizzle") });
    await replaceFunctions(client);
    await client`SELECT pg_advisory_unlock(${advisoryLock}::bigint)`;
    await buildLargeIndexes(client);
  } finally {
    await client.end({ timeout: 5 });
  }
}

async function replaceFunctions(client: Sql): Promise<void> {
  const folder = fileURLToPath(new URL(".", import.meta.url));
  const paths = readdirSync(folder, { recursive: true, encoding: "utf8" }).filter((path) => path.endsWith(".sql"));
  const files = new Map(paths.map((path) => [basename(path), join(folder, path)]));
  await client.begin(async (tx) => {
    await tx`CREATE TABLE IF NOT EXISTS sql_functions (file text PRIMARY KEY, hash text NOT NULL)`;
    for (const [file, path] of [...files].sort(([a], [b]) => (a < b ? -1 : 1))) {
      const source = readFileSync(path, "utf8");
      const hash = createHash("sha256").update(source).digest("hex");
      const [known] = await tx`SELECT 1 FROM sql_functions WHERE file = ${file} AND hash = ${hash}`;
      if (known) continue;
      await tx
        .savepoint((sp) => sp.unsafe(source))
        .catch(async (error: { code?: string }) => {
          if (error.code !== cannotReplace) throw error;
          await tx.unsafe(`DROP FUNCTION ${file.replace(".sql", "")}; ${source}`);
        });
      await tx`
        INSERT INTO sql_functions VALUES (${file}, ${hash}) ON CONFLICT (file) DO UPDATE SET hash = excluded.hash`;
    }
  });
}
