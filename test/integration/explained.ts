import type { Sql } from "postgres";
import type { Database } from "../../src/storage/postgres/database.js";

interface PlanNode {
  readonly "Shared Hit Blocks": number;
  readonly "Shared Read Blocks": number;
}

/** A database that counts what is read for each of its queries: each is explained first, and then asked. */
export function explained(database: Database): {
  database: Database;
  blocksOf(work: () => Promise<unknown>): Promise<number>;
} {
  let blocks = 0;
  const { sql } = database;
  const explain = async (text: TemplateStringsArray, values: unknown[]) => {
    const [row] = await sql<Record<string, { Plan: PlanNode }[]>[]>`
      EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) ${(sql as unknown as (...parts: unknown[]) => never)(text, ...values)}`;
    // The column's name has a blank, of which the driver makes what it likes.
    const [{ Plan }] = Object.values(row!)[0] as [{ Plan: PlanNode }];
    blocks += Plan["Shared Hit Blocks"] + Plan["Shared Read Blocks"];
  };
  const counting = (text: TemplateStringsArray, ...values: unknown[]) => {
    const query = (sql as unknown as (...parts: unknown[]) => Promise<unknown>)(text, ...values);
    const run = query.then.bind(query);
    // A part of a query is not awaited, and stays what it is.
    // biome-ignore lint/suspicious/noThenProperty: the driver's queries are thenables, which begin when they are awaited.
    query.then = ((done: never, failed: never) => explain(text, values).then(() => run(done, failed), failed)) as never;
    return query;
  };
  return {
    database: { ...database, sql: Object.assign(counting, { unsafe: sql.unsafe }) as unknown as Sql },
    blocksOf: async (work) => {
      blocks = 0;
      await work();
      return blocks;
    },
  };
}
