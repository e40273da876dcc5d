import { drizzle, type PostgresJsDatabase } from "drizzle-orm/postgres-js";
import postgres, { type Sql } from "postgres";
import { statementTimeoutMs } from "./errors.js";
import * as schema from "./schema.js";
import { Transactions } from "./transactions.js";

const lockTimeoutMs = 2_000;
const connectTimeoutS = 2;
const idleTimeoutS = 300;

/** Batches of one queue that are committed at once. */
export const commitsPerQueue = 2;
/** Issues and locks have two batches under way, issues by code and uses one. */
const maxCommitConnections = 2 * commitsPerQueue + 2;

export interface Database {
  /** For hot paths and bulk reads: raw SQL. Columns come in camel case. */
  readonly sql: Sql;
  /** For group commits alone, so that a batch never waits for a connection. */
  readonly commitSql: Sql;
  /** For everything else. It has connections of its own, for Drizzle changes how a client parses times. */
  readonly orm: PostgresJsDatabase<typeof schema>;
  close(): Promise<void>;
}

export interface DatabaseOptions {
  readonly url: string;
  /** Connections at most, 4 to 200. */
  readonly poolSize: number;
  /** Shown in pg_stat_activity. */
  readonly applicationName?: string;
}

/** Of texts and uuids; other arrays are not sent. */
function arrayLiteral(items: readonly (string | null)[]): string {
  const quoted = items.map((item) => (item === null ? "NULL" : `"${item.replace(/["\\]/g, "\\$&")}"`));
  return `{${quoted.join(",")}}`;
}

export function openDatabase({ url, poolSize, applicationName = "coupon-service" }: DatabaseOptions): Database {
  const client = (max: number, camelCase: boolean) => {
    const transactions = new Transactions();
    const made = postgres(url, {
      max,
      onclose: transactions.onclose,
      connect_timeout: connectTimeoutS,
      idle_timeout: idleTimeoutS,
      backoff: false,
      onnotice: () => {},
      transform: camelCase ? { column: { from: postgres.toCamel } } : {},
      // No count or amount comes near 2^53: the contract's ranges end at 10^15.
      types: {
        count: { to: 20, from: [20], parse: Number, serialize: String },
        uuids: { to: 2951, from: [], parse: String, serialize: arrayLiteral },
        texts: { to: 1009, from: [], parse: String, serialize: arrayLiteral },
      },
      // The driver would ask each new connection for all array types, and if that one died meanwhile, nobody would
      // handle the rejection: the process would end.
      fetch_types: false,
      connection: {
        application_name: applicationName,
        statement_timeout: statementTimeoutMs,
        lock_timeout: lockTimeoutMs,
        idle_in_transaction_session_timeout: statementTimeoutMs,
        TimeZone: "UTC",
      },
    });
    return transactions.protect(made);
  };
  const commitConnections = Math.min(maxCommitConnections, poolSize - 2);
  const half = Math.floor((poolSize - commitConnections) / 2);
  const clients = {
    sql: client(half, true),
    commitSql: client(commitConnections, true),
    orm: client(poolSize - commitConnections - half, false),
  };
  return {
    sql: clients.sql,
    commitSql: clients.commitSql,
    orm: drizzle(clients.orm, { schema }),
    close: async () => {
      await Promise.all(Object.values(clients).map((one) => one.end({ timeout: 1 })));
    },
  };
}
