import type { Sql, TransactionSql } from "postgres";
import { tablesOfMonths } from "../months/keep-months.js";
import { isLockTrouble, type MigrationLog, withPatience } from "./patient-ddl.js";
import { searchPath } from "./release-functions.js";

/** The first partition: all events up to a month. Its CHECK says so, in its name too. */
const checkPrefix = "events_before_";
/** The months for which the table takes events while it is being made the first partition: this one, and so many more. */
const monthsToCome = 2;

/**
 * Makes `events` a table of partitions by month. The table that was there becomes the first of them, as it is, with all its rows
 * and its primary key. What takes long (to see that none of its rows is of a later month) is done while others write to it; the
 * rest is a matter of names, under a lock of some milliseconds. Whoever inserts, of any release, finds the new table by the
 * old one's name. Answers whether that is done; else the next start goes on.
 *
 * The partitions have their primary keys each by themselves: one of all of them would have to have the time in it, and to be
 * built for the first one.
 */
export async function partitionEvents(client: Sql, log: MigrationLog): Promise<boolean> {
  const [table] = await client<{ kind: string }[]>`
    SELECT relkind AS kind FROM pg_class WHERE oid = 'public.events'::regclass`;
  if (table?.kind !== "p") {
    try {
      const month = await checkedMonth(client, log);
      const validate = async () =>
        void (await client`ALTER TABLE public.events VALIDATE CONSTRAINT ${client(checkPrefix + month)}`);
      await withPatience(client, "partitions of events", validate, log);
      await withPatience(client, "partitions of events", () => swap(client, month), log);
    } catch (error) {
      if (!isLockTrouble(error)) throw error;
      log.warn({ err: error }, "events could not be partitioned; the next start goes on with it");
      // Left behind, it would stop all writes in some weeks.
      await withPatience(client, "partitions of events", () => dropChecks(client), log);
      return false;
    }
    log.info("partitioned the events by month");
  }
  return true;
}

/** Adds the CHECK, or finds the one of a start that was cut off, unless its month is too near. */
async function checkedMonth(client: Sql, log: MigrationLog): Promise<string> {
  const [wanted] = await client<{ next: string; month: string }[]>`
    SELECT to_char(now() AT TIME ZONE 'UTC' + interval '1 month', 'YYYY_MM') AS next,
      to_char(now() AT TIME ZONE 'UTC' + make_interval(months => ${monthsToCome}), 'YYYY_MM') AS month`;
  const { next, month } = wanted as { next: string; month: string };
  const known = await checks(client);
  const usable = known.find((one) => one > next);
  if (usable) return usable;
  const work = async () => {
    await dropChecks(client);
    await client.unsafe(
      `ALTER TABLE public.events ADD CONSTRAINT ${checkPrefix}${month} CHECK (happened_at < '${startOf(month)}') NOT VALID`,
    );
  };
  await withPatience(client, "partitions of events", work, log);
  return month;
}

async function checks(client: Sql): Promise<string[]> {
  const found = await client<{ name: string }[]>`
    SELECT conname AS name FROM pg_constraint
    WHERE conrelid = 'public.events'::regclass AND starts_with(conname, ${checkPrefix})`;
  return found.map(({ name }) => name.slice(checkPrefix.length));
}

async function dropChecks(client: Sql): Promise<void> {
  for (const month of await checks(client))
    await client`ALTER TABLE public.events DROP CONSTRAINT ${client(checkPrefix + month)}`;
}

function startOf(month: string): string {
  return `${month.replace("_", "-")}-01 00:00:00+00`;
}

async function swap(client: Sql, month: string): Promise<void> {
  await client.begin(async (tx) => {
    await tx`LOCK TABLE public.events IN ACCESS EXCLUSIVE MODE`;
    const [sequence] = await tx<{ name: string }[]>`SELECT pg_get_serial_sequence('public.events', 'seq') AS name`;
    const [last] = await tx.unsafe<{ next: string }[]>(
      `SELECT (last_value + is_called::int)::text AS next FROM ${sequence?.name}`,
    );
    const first = `events_until_${month}`;
    await tx.unsafe(`
      ALTER TABLE public.events RENAME TO ${first};
      ALTER TABLE public.${first} ALTER seq DROP IDENTITY;
      CREATE TABLE public.events (LIKE public.${first} INCLUDING DEFAULTS) PARTITION BY RANGE (happened_at);
      ALTER TABLE public.events ALTER seq ADD GENERATED ALWAYS AS IDENTITY (START WITH ${last?.next});
      ALTER TABLE public.events ATTACH PARTITION public.${first} FOR VALUES FROM (MINVALUE) TO ('${startOf(month)}');
      ALTER TABLE public.${first} DROP CONSTRAINT ${checkPrefix}${month};
      CREATE TABLE public.events_rest (LIKE public.events INCLUDING DEFAULTS, PRIMARY KEY (seq));
      ALTER TABLE public.events ATTACH PARTITION public.events_rest DEFAULT;`);
    await copyGrants(tx, first);
  });
}

/** What others may do with the events, they may go on doing. */
async function copyGrants(tx: TransactionSql, from: string): Promise<void> {
  const grants = await tx<{ statement: string }[]>`
    SELECT format('GRANT %s ON public.events TO %s %s', a.privilege_type,
      CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(a.grantee)) END,
      CASE WHEN a.is_grantable THEN 'WITH GRANT OPTION' ELSE '' END) AS statement
    FROM pg_class c CROSS JOIN LATERAL aclexplode(c.relacl) a
    WHERE c.oid = to_regclass(${`public.${from}`}) AND a.grantee <> c.relowner`;
  for (const { statement } of grants) await tx.unsafe(statement);
}

/** The partitions of the months to come, of all tables that have such. */
export async function makeMonths(client: Sql): Promise<void> {
  await client.begin(async (tx) => {
    await tx.unsafe(`SET LOCAL search_path = ${searchPath()}`);
    for (const table of tablesOfMonths) await tx`SELECT * FROM keep_months(${table}, now(), 0)`;
  });
}
