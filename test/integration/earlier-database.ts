import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import type { Sql } from "postgres";
import { packageRoot } from "../../src/platform/package-root.js";

/** As many migrations as version 0.1 has. */
export const ofVersion01 = 3;

/** Makes an empty database what a release left that had only the first `count` migrations, with no functions. */
export async function applyMigrations(sql: Sql, count: number): Promise<void> {
  const folder = join(packageRoot(), "drizzle");
  const journal = JSON.parse(readFileSync(join(folder, "meta/_journal.json"), "utf8")) as {
    entries: { tag: string; when: number }[];
  };
  await sql.unsafe(`
    CREATE SCHEMA drizzle;
    CREATE TABLE drizzle.__drizzle_migrations (id serial PRIMARY KEY, hash text NOT NULL, created_at bigint)`);
  for (const { tag, when } of journal.entries.slice(0, count)) {
    const source = readFileSync(join(folder, `${tag}.sql`), "utf8");
    for (const statement of source.split("--> statement-breakpoint")) await sql.unsafe(statement);
    const hash = createHash("sha256").update(source).digest("hex");
    await sql`INSERT INTO drizzle.__drizzle_migrations (hash, created_at) VALUES (${hash}, ${when})`;
  }
}
