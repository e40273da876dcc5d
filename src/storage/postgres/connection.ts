import { drizzle, type PostgresJsDatabase } from "drizzle-orm/postgres-js";
import postgres, { type Sql } from "postgres";
import type { DatabaseServer } from "../../platform/database-url.js";
import {
  idleInTransactionTimeoutMs,
  lockTimeoutMs,
  longStatementTimeoutMs,
  NotPrimary,
  NotSynced,
  statementTimeoutMs,
} from "./errors.js";
import { searchPath } from "./migrating/release-functions.js";
import type { Link } from "./pool.js";
import type { Primary } from "./primary/primary.js";
import { openClient, saysNotSynced } from "./primary/server-state.js";
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
  readonly primary: Primary;
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

/**
 * postgres 3.4.9 goes on to count the rows of a statement that fails after some of them, and leaves the places of those empty in the next
 * result (its issues 1119 and 1181): the first row is undefined there. What ends well has it count anew.
 */
async function forgetRows(life: Life, connection: Connection): Promise<Connection> {
  await connection.sql`SELECT`;
  life.hasFailed = false;
  return connection;
}

/** A client of the driver, which has one connection. */
interface Life {
  readonly connection: Connection | undefined;
  readonly server: DatabaseServer | undefined;
  /** See Primary; 0: it is not open yet. */
  term: number;
  isOpen: boolean;
  /** Since the work began. */
  isLost: boolean;
  /** By us: what is closed after that was not lost. */
  isEnded: boolean;
  /** Since the work began, it was told of a COMMIT that was not waited for. */
  isNotSynced: boolean;
  /** The last work has failed. */
  hasFailed: boolean;
}

const noLife = (): Life => ({
  ...{ connection: undefined, server: undefined, term: 0 },
  ...{ isOpen: false, isLost: false, isEnded: true, isNotSynced: false, hasFailed: false },
});

/** A client of the driver with one connection, so that what is sent on it is decided here. Each connection is to the primary. */
export class PostgresLink implements Link<Connection> {
  private life = noLife();
  private openedMs = 0;
  private isAtWork = false;
  /** performance.now() of when the work began, or of the last answer in its transaction. */
  private lastSignMs = 0;
  private wasSilent = false;
  /** Fails what waits for a connection. */
  private giveUp: (error: Error) => void = () => {};

  constructor(private readonly options: ConnectionOptions) {}

  take(): Connection | Promise<Connection> {
    const { life } = this;
    this.isAtWork = true;
    this.sign();
    if (life.connection && life.isOpen && life.term === this.options.primary.term) {
      life.isLost = false;
      life.isNotSynced = false;
      return life.hasFailed ? forgetRows(life, life.connection) : life.connection;
    }
    const givenUp = new Promise<never>((_, reject) => {
      this.giveUp = reject;
    });
    return Promise.race([this.connect(), givenUp]);
  }

  objection(): Error | undefined {
    return this.life.isNotSynced ? new NotSynced("a COMMIT was not waited for on the standbys") : undefined;
  }

  giveBack(hasFailed = false): void {
    const { life } = this;
    this.isAtWork = false;
    life.hasFailed ||= hasFailed;
    const isOld = life.term !== this.options.primary.term || performance.now() - this.openedMs > maxAgeMs;
    // The driver keeps the server's last word on a connection that was lost, and would fail the next statement with it.
    if (!life.isOpen || life.isLost || isOld) this.end();
    else this.sign();
  }

  /** Throws when the server of the present work is not the one to write to, or not any more. */
  async confirm(): Promise<void> {
    const { server, connection } = this.life;
    if (!server || !connection) throw new NotPrimary("there is no connection");
    await this.options.primary.confirm(server, connection.sql);
  }

  /** What is at work on it is rejected; the next one finds another connection. */
  discard(): void {
    this.end();
    this.giveUp(Object.assign(new Error("the connection was given up"), { code: "CONNECTION_DESTROYED" }));
  }

  /** Discards a connection to what is not the primary any more, whatever it waits for there. */
  discardOld(): void {
    if (this.life.isOpen && this.life.term !== this.options.primary.term) this.discard();
  }

  /** Discards the connection when two checks in a row have found it silent: after the first, what lay unread was read. */
  check(): void {
    const quietMs = performance.now() - this.lastSignMs;
    if (!this.isAtWork && this.life.isOpen && quietMs > maxIdleMs) this.end();
    const isSilent = this.isAtWork && quietMs > silentMs;
    if (isSilent && this.wasSilent) this.discard();
    this.wasSilent = isSilent;
  }

  async close(): Promise<void> {
    this.life.isEnded = true;
    await this.life.connection?.sql.end({ timeout: 1 });
  }

  /** Where a connection cannot be made, the primary may be another server by now: then that is tried, too. */
  private async connect(): Promise<Connection> {
    const { primary, onOpen } = this.options;
    for (let isLast = false; ; isLast = true) {
      this.end();
      const before = this.life;
      const server = await primary.server();
      // Given up meanwhile, and maybe taken by another one.
      if (this.life !== before) throw new NotPrimary("the connection was given up");
      const connection = this.open(server);
      const { life } = this;
      try {
        life.term = await primary.admit(server, connection.sql);
        await onOpen?.(connection.sql);
        life.isOpen = !life.isLost;
        this.openedMs = performance.now();
        return connection;
      } catch (error) {
        if (this.life !== life || isLast || !primary.failed(server, error)) throw error;
      }
    }
  }

  private sign(): void {
    this.lastSignMs = performance.now();
  }

  /** Ends the client; the next work makes another one. */
  private end(): void {
    const { life } = this;
    life.isLost = true;
    life.isOpen = false;
    life.isEnded = true;
    this.life = noLife();
    void life.connection?.sql.end({ timeout: 0 });
  }

  private open(server: DatabaseServer): Connection {
    const { primary } = this.options;
    const transactions = new Transactions(() => this.sign());
    const client = openClient(server, {
      max: 1,
      // With 0 the driver's transactions break: it names the connection of a transaction only below this bound.
      ...{ max_pipeline: 1 },
      onclose: (connectionId) => {
        life.isLost = true;
        life.isOpen = false;
        transactions.onclose(connectionId);
        if (life.isEnded) return;
        life.isEnded = true;
        primary.doubt();
        // The driver would open it again for the next statement, and nobody would ask what it leads to.
        void client.end({ timeout: 0 });
      },
      connect_timeout: connectTimeoutS,
      // The driver would close it at any moment, and open it again with a statement in hand whose time is running.
      idle_timeout: 0,
      max_lifetime: null,
      backoff: false,
      onnotice: (notice) => {
        if (!saysNotSynced(notice)) return;
        life.isNotSynced = true;
        primary.distrust();
      },
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
        // A plan that may not take the table as a whole counts as so costly that it would be compiled, for seconds, each time that it runs.
        jit: "off",
        // That a COMMIT was not waited for is a warning.
        client_min_messages: "warning",
        TimeZone: "UTC",
      },
    });
    const connection = bothWays(transactions.protect(client));
    const life: Life = { ...noLife(), connection, server, isEnded: false };
    this.life = life;
    return connection;
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
