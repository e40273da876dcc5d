import type { Sql } from "postgres";
import type { Connection, Database } from "../../src/storage/postgres/database.js";

interface PlanNode {
  readonly "Shared Hit Blocks": number;
  readonly "Shared Read Blocks": number;
}

/** A database that counts what is read for each query of one of its pools: what is to be counted is explained first, and then asked. */
export function explained(
  database: Database,
  pool: "reads" | "background" = "reads",
): {
  database: Database;
  blocksOf(work: () => Promise<unknown>): Promise<number>;
} {
  let isCounting = false;
  let blocks = 0;
  const explainOnce = async (sql: Sql, text: TemplateStringsArray, values: unknown[]) => {
    const [row] = await sql<Record<string, { Plan: PlanNode }[]>[]>`
      EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) ${(sql as unknown as (...parts: unknown[]) => never)(text, ...values)}`;
    // The column's name has a blank, of which the driver makes what it likes.
    const [{ Plan }] = Object.values(row!)[0] as [{ Plan: PlanNode }];
    return Plan["Shared Hit Blocks"] + Plan["Shared Read Blocks"];
  };
  /** Twice: where tests beside this one make and drop databases, a function's plans and the catalogue's pages come anew at times. */
  const explain = async (sql: Sql, text: TemplateStringsArray, values: unknown[]) => {
    blocks += Math.min(await explainOnce(sql, text, values), await explainOnce(sql, text, values));
  };
  const counted = ({ sql, ...others }: Connection): Connection => {
    const counting = (text: TemplateStringsArray, ...values: unknown[]) => {
      const query = (sql as unknown as (...parts: unknown[]) => Promise<unknown>)(text, ...values);
      if (!isCounting) return query;
      const run = query.then.bind(query);
      // A part of a query is not awaited, and stays what it is.
      // biome-ignore lint/suspicious/noThenProperty: the driver's queries are thenables, which begin when they are awaited.
      query.then = ((done: never, failed: never) =>
        explain(sql, text, values).then(() => run(done, failed), failed)) as never;
      return query;
    };
    return { ...others, sql: Object.assign(counting, { unsafe: sql.unsafe }) as unknown as Sql };
  };
  const counting = Object.create(database[pool]) as Database["reads"];
  counting.run = (deadlineMs, work, timeoutMs) =>
    database[pool].run(deadlineMs, (connection) => work(counted(connection)), timeoutMs);
  return {
    database: { ...database, [pool]: counting },
    blocksOf: async (work) => {
      isCounting = true;
      blocks = 0;
      try {
        await work();
        return blocks;
      } finally {
        isCounting = false;
      }
    },
  };
}
