import { drizzle, type PostgresJsDatabase } from "drizzle-orm/postgres-js";
import postgres, { type Sql } from "postgres";
import { idleInTransactionTimeoutMs, lockTimeoutMs, longStatementTimeoutMs, statementTimeoutMs } from "./errors.js";
import { searchPath } from "./migrating/release-functions.js";
import type { Link } from "./pool.js";
import * as schema from "./schema.js";
import { Transactions } from "./transactions.js";

const connectTimeoutS = 2;
/** What is idle for longer is closed, and so is what was open for longer, between two pieces of work. */
const maxIdleMs = 300_000;
const maxAgeMs = 1_800_000;
/**
 * Postgres has ended every statement long before: who says nothing for this long is not there any more. The system's own
 * time for that is a quarter of an hour.
 */
const silentMs = longStatementTimeoutMs + 10_000;

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
  /** When a COMMIT counts as done; see durability.ts. */
  readonly synchronousCommit: string;
  /** Before the first piece of work on each new connection. It must not throw. */
  readonly onOpen?: (sql: Sql) => Promise<void>;
}

/** Of texts and uuids; other arrays are not sent. */
function arrayLiteral(items: readonly (string | null)[]): string {
  const quoted = items.map((item) => (item === null ? "NULL" : `"${item.replace(/["\\]/g, "\\$&")}"`));
  return `{${quoted.join(",")}}`;
}

/** A client of the driver with one connection, so that what is sent on it is decided here. */
export class PostgresLink implements Link<Connection> {
  private now: Connection;
  /** Of the present client's connection. Lost: since the work began. */
  private life = { isOpen: false, isLost: false };
  private openedMs = 0;
  private isAtWork = false;
  /** performance.now() of when the work began, or of the last answer in its transaction. */
  private lastSignMs = 0;
  private wasSilent = false;

  constructor(private readonly options: ConnectionOptions) {
    this.now = this.open();
  }

  take(): Connection | Promise<Connection> {
    this.isAtWork = true;
    this.life.isLost = false;
    this.sign();
    return this.life.isOpen ? this.now : this.connect();
  }

  giveBack(): void {
    this.isAtWork = false;
    // The driver keeps the server's last word on a connection that was lost, and would fail the next statement with it.
    if (this.life.isLost || performance.now() - this.openedMs > maxAgeMs) this.renew();
    else this.sign();
  }

  /** What is at work on it is rejected; the next one finds another connection. */
  discard(): void {
    this.life.isLost = true;
    void this.now.sql.end({ timeout: 0 });
  }

  /** Discards the connection when two checks in a row have found it silent: after the first, what lay unread was read. */
  check(): void {
    const quietMs = performance.now() - this.lastSignMs;
    if (!this.isAtWork && this.life.isOpen && quietMs > maxIdleMs) this.renew();
    const isSilent = this.isAtWork && quietMs > silentMs;
    if (isSilent && this.wasSilent) this.discard();
    this.wasSilent = isSilent;
  }

  async close(): Promise<void> {
    await this.now.sql.end({ timeout: 1 });
  }

  private async connect(): Promise<Connection> {
    const { now, life } = this;
    await now.sql`SELECT 1`;
    await this.options.onOpen?.(now.sql);
    life.isOpen = true;
    this.openedMs = performance.now();
    return now;
  }

  private sign(): void {
    this.lastSignMs = performance.now();
  }

  private renew(): void {
    void this.now.sql.end({ timeout: 0 });
    this.now = this.open();
  }

  private open(): Connection {
    const life = { isOpen: false, isLost: false };
    this.life = life;
    const transactions = new Transactions(() => this.sign());
    const client = postgres(this.options.url, {
      max: 1,
      // With 0 the driver's transactions break: it names the connection of a transaction only below this bound.
      ...{ max_pipeline: 1 },
      onclose: (connectionId) => {
        life.isLost = true;
        life.isOpen = false;
        transactions.onclose(connectionId);
      },
      connect_timeout: connectTimeoutS,
      // The driver would close it at any moment, and open it again with a statement in hand whose time is running.
      idle_timeout: 0,
      max_lifetime: null,
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
        // None of this is left to what the database or the role has set.
        search_path: searchPath(),
        default_transaction_isolation: "read committed",
        synchronous_commit: this.options.synchronousCommit,
        statement_timeout: statementTimeoutMs,
        lock_timeout: lockTimeoutMs,
        idle_in_transaction_session_timeout: idleInTransactionTimeoutMs,
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
