import postgres, { type Options, type PostgresType, type Sql } from "postgres";
import { type DatabaseServer, isVerified } from "../../../platform/database-url.js";
import { errorCode } from "../../../platform/error-code.js";

/**
 * A client of the driver for one server. The driver's own choice among several hosts will not do: it takes a standby for a
 * server that can be written to, and it asks without a pause and without an end when no host is the right one.
 */
export function openClient(server: DatabaseServer, options: Options<Record<string, PostgresType>>): Sql {
  // As lists the driver takes them as they are; its types do not know that.
  const address = { host: [server.host], port: [server.port] } as object;
  // To a server that is called by a number the driver names no host, and Node would take any certificate of `localhost`.
  const tls = isVerified(server) && { ssl: { host: server.host } };
  return postgres(withoutSettings(server.url, options.connection), { ...options, ...address, ...tls }) as Sql;
}

/** To the driver, what a URL sets goes before what the program does. Only a name for the connections may come from there. */
function withoutSettings(text: string, settings: object = {}): string {
  const own = Object.keys(settings).map((name) => name.toLowerCase());
  const url = new URL(text);
  for (const name of [...url.searchParams.keys()]) {
    if (name !== "application_name" && own.includes(name.toLowerCase())) url.searchParams.delete(name);
  }
  return url.href;
}

/** What a server is at the moment. */
export interface ServerState {
  /** It repeats what another server does. */
  readonly recovering: boolean;
  readonly readonly: boolean;
  /** The same for a primary and its standbys, and for no other server. null: it cannot be found out. */
  readonly cluster: string | null;
  /** Grows whenever a standby is promoted. null: as above, or it is a standby. */
  readonly timeline: number | null;
}

/** SQLSTATEs of servers that do not tell everybody: no right to ask, not known, not supported. */
const untold = ["42501", "42883", "0A000"];

export async function askState(sql: Sql): Promise<ServerState> {
  try {
    const [row] = await sql<[Omit<ServerState, "timeline"> & { file: string | null }]>`
      SELECT pg_is_in_recovery() AS recovering, current_setting('transaction_read_only') = 'on' AS readonly,
        (SELECT system_identifier::text FROM pg_control_system()) AS cluster,
        CASE WHEN NOT pg_is_in_recovery() THEN pg_walfile_name(pg_current_wal_insert_lsn()) END AS file`;
    const { file, ...state } = row;
    // The name of a file of the write-ahead log begins with the timeline.
    return { ...state, timeline: file === null ? null : Number.parseInt(file.slice(0, 8), 16) };
  } catch (error) {
    if (!untold.includes(errorCode(error) ?? "")) throw error;
    const [row] = await sql<[Pick<ServerState, "recovering" | "readonly">]>`
      SELECT pg_is_in_recovery() AS recovering, current_setting('transaction_read_only') = 'on' AS readonly`;
    return { ...row, cluster: null, timeline: null };
  }
}

/** Said of a COMMIT that was cut off while it waited for a standby: it has happened here, and maybe nowhere else. */
export function saysNotSynced(notice: { readonly routine?: string }): boolean {
  return notice.routine === "SyncRepWaitForLSN";
}

export async function reachSync(sql: Sql): Promise<void> {
  try {
    await sql`SELECT pg_logical_emit_message(true, 'coupon-service', '')`;
  } catch (error) {
    if (!untold.includes(errorCode(error) ?? "")) throw error;
  }
}
