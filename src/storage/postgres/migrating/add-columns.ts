import type { MigrationMeta } from "drizzle-orm/migrator";
import type { Sql, TransactionSql } from "postgres";
import { type MigrationLog, withPatience } from "./patient-ddl.js";

/** As drizzle-kit writes it. What looks otherwise stays in its migration. */
const newColumn = /^\s*ALTER TABLE "(\w+)" ADD COLUMN ("\w+" [^;]+);?\s*$/;
/** When the first migration was made that version 0.1 does not have. */
const firstAfterVersion01 = 1_795_645_319_022;

/**
 * Adds the columns that these migrations add to tables which are there already, and answers the migrations without them. Each table gets
 * all of its columns at once, and is the only one whose lock is asked for meanwhile. A migration, which is a transaction, keeps the
 * lock of one table while it waits for that of the next: under load some caller who waits for the first always has the second.
 *
 * A start that was cut off may be repeated: columns that are there are passed over. No column is added twice, and none needs
 * anything else that a migration makes; a test holds the migrations to that.
 */
export async function addColumns(
  client: Sql,
  migrations: readonly MigrationMeta[],
  log: MigrationLog,
): Promise<MigrationMeta[]> {
  const found = await client<{ name: string }[]>`SELECT tablename AS name FROM pg_tables WHERE schemaname = 'public'`;
  const columnsOf = new Map(found.map(({ name }) => [name, [] as string[]]));
  const rest = migrations.map((migration) => ({
    ...migration,
    sql: migration.sql.filter((statement) => {
      const [, table = "", column] = newColumn.exec(statement) ?? [];
      const columns = columnsOf.get(table);
      columns?.push(`ADD COLUMN IF NOT EXISTS ${column}`);
      return !columns;
    }),
  }));
  const isVersion01 = migrations[0]?.folderMillis === firstAfterVersion01;
  for (const [table, columns] of columnsOf) {
    if (columns.length === 0) continue;
    const work = async () => {
      await client.begin(async (tx) => {
        await tx.unsafe(`ALTER TABLE public."${table}" ${columns.join(", ")}`);
        if (isVersion01 && table === "coupons") await endSessions(tx);
      });
    };
    await withPatience(client, `new columns of ${table}`, work, log);
  }
  return rest;
}

/**
 * Version 0.1 asks for `*` of coupons, with several statements on their way on a connection. When there are more columns than it knows,
 * its driver asks anew, and may then take the answer to one statement for that of another, and so of another user. On a new
 * connection it begins anew, too, and its callers hear at most what they hear when Postgres is restarted. To be called under the
 * lock of the table: then none of these sessions has read the new columns. Those of others, whom this role may not end, stay.
 */
async function endSessions(tx: TransactionSql): Promise<void> {
  await tx`
    SELECT pg_terminate_backend(a.pid) FROM pg_stat_activity a JOIN pg_roles r ON r.oid = a.usesysid
    WHERE a.datname = current_database() AND a.application_name = 'coupon-service' AND pg_has_role(r.oid, 'USAGE')
      AND (NOT r.rolsuper OR current_setting('is_superuser') = 'on')`;
}
