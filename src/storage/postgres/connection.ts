import { drizzle, type PostgresJsDatabase } from "drizzle-orm/postgres-js";
import postgres, { type Sql } from "postgres";
import { statementTimeoutMs } from "./errors.js";
import type { Link } from "./pool.js";
import * as schema from "./schema.js";
import { Transactions } from "./transactions.js";

const lockTimeoutMs = 2_000;
const connectTimeoutS = 2;
const idleTimeoutS = 300;

/** One connection, in the two ways in which the program speaks to it. */
export interface Connection {
  /** For hot paths and bulk reads: raw SQL. Columns come in camel case. */
  readonly sql: Sql;
  readonly orm: PostgresJsDatabase<typeof schema>;
}

export interface ConnectionOptions {
  readonly url: string;
  /** Shown in pg_stat_activity. */
  readonly applicationName: string;
}

/** Of texts and uuids; other arrays are not sent. */
function arrayLiteral(items: readonly (string | null)[]): string {
  const quoted = items.map((item) => (item === null ? "NULL" : `"${item.replace(/["\\]/g, "\\$&")}"`));
  return `{${quoted.join(",")}}`;
}

/** A client of the driver with one connection, so that what is sent on it is decided here. */
export class PostgresLink implements Link<Connection> {
  private now: Connection;
  private isLost = false;

  constructor(private readonly options: ConnectionOptions) {
    this.now = this.open();
  }

  take(): Connection {
    this.isLost = false;
    return this.now;
  }

  giveBack(): void {
    if (!this.isLost) return;
    // The driver keeps the server's last word on a connection that was lost, and would fail the next statement with it.
    void this.now.sql.end({ timeout: 0 });
    this.now = this.open();
  }

  async close(): Promise<void> {
    await this.now.sql.end({ timeout: 1 });
  }

  private open(): Connection {
    const transactions = new Transactions();
    const client = postgres(this.options.url, {
      max: 1,
      // With 0 the driver's transactions break: it names the connection of a transaction only below this bound.
      ...{ max_pipeline: 1 },
      onclose: (connectionId) => {
        this.isLost = true;
        transactions.onclose(connectionId);
      },
      connect_timeout: connectTimeoutS,
      idle_timeout: idleTimeoutS,
      backoff: false,
      onnotice: () => {},
      transform: { column: { from: postgres.toCamel } },
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
        application_name: this.options.applicationName,
        statement_timeout: statementTimeoutMs,
        lock_timeout: lockTimeoutMs,
        idle_in_transaction_session_timeout: statementTimeoutMs,
        TimeZone: "UTC",
      },
    });
    return bothWays(transactions.protect(client));
  }
}

/** What Drizzle sets for the whole client it is given: how values of these types are read and written. */
const timestamptz = 1184;

function bothWays(sql: Sql): Connection {
  const { parsers, serializers } = sql.options;
  const [parse, serialize] = [parsers[timestamptz], serializers[timestamptz]];
  const orm = drizzle(sql, { schema });
  // Drizzle has times come as texts; its columns take a Date as well, which raw SQL wants.
  Object.assign(parsers, { [timestamptz]: parse });
  Object.assign(serializers, { [timestamptz]: serialize });
  return { sql, orm };
}
