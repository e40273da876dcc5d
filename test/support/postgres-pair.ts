import { execFile } from "node:child_process";
import { appendFile, chown, copyFile, rm, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";
import postgres, { type Sql } from "postgres";
import { createTemporaryFolder } from "../../embedded/data-folder.js";
import { type EmbeddedServers, startEmbedded } from "../../embedded/embedded.js";
import { until } from "./until.js";

const run = promisify(execFile);
/** As the primary knows its standby. */
const standbyName = "standby";

/** One of the two servers, under a supervisor that starts it again when it dies. */
export interface PairServer {
  readonly url: string;
  readonly address: string;
  readonly sql: Sql;
  readonly pid: number;
  /** kill -9; the supervisor is held still, so that it stays away. */
  kill(): Promise<void>;
  /** Stops it and all its sessions where they stand, like a machine that hangs. */
  freeze(): Promise<void>;
  thaw(): void;
  /** Lets the supervisor start it again. */
  revive(): Promise<void>;
  /** So that it can be stopped, however it was left. */
  release(): void;
}

/** A primary, and a standby that streams from it and without which it commits nothing. */
export interface PostgresPair {
  readonly primary: PairServer;
  readonly standby: PairServer;
  /** With both of them, as libpq spells it. */
  readonly url: string;
  /** The standby becomes a primary. */
  promote(): Promise<void>;
  stop(): Promise<void>;
}

/** Of Postgres and what it has started, at the moment. */
async function sessionsOf(postmaster: number): Promise<number[]> {
  const { stdout } = await run("ps", ["-A", "-o", "pid=,ppid="]);
  const rows = stdout
    .trim()
    .split("\n")
    .map((row) => row.trim().split(/\s+/).map(Number));
  return rows.flatMap(([pid, parent]) => (parent === postmaster ? [pid as number] : []));
}

async function parentOf(pid: number): Promise<number> {
  const { stdout } = await run("ps", ["-o", "ppid=", "-p", String(pid)]);
  return Number(stdout.trim());
}

function signal(pids: readonly number[], name: NodeJS.Signals): void {
  for (const pid of pids) {
    try {
      process.kill(pid, name);
    } catch {
      // A session that has ended meanwhile.
    }
  }
}

async function serverOf(servers: EmbeddedServers): Promise<PairServer> {
  const url = servers.databaseUrl as string;
  const sql = postgres(url, { max: 2, onnotice: () => {}, connect_timeout: 60 });
  const supervisor = await parentOf(servers.postgresPid as number);
  let frozen: number[] = [];
  return {
    url,
    address: new URL(url).host,
    sql,
    get pid() {
      return servers.postgresPid as number;
    },
    kill: async () => {
      const { postgresPid } = servers;
      signal([supervisor], "SIGSTOP");
      signal([postgresPid as number], "SIGKILL");
      await until("its sessions are gone", async () => (await sessionsOf(postgresPid as number)).length === 0);
    },
    freeze: async () => {
      const postmaster = servers.postgresPid as number;
      // The postmaster first, so that it starts no further session.
      signal([postmaster], "SIGSTOP");
      frozen = [postmaster, ...(await sessionsOf(postmaster))];
      signal(frozen, "SIGSTOP");
    },
    thaw: () => signal(frozen.splice(0), "SIGCONT"),
    revive: async () => {
      const before = servers.postgresPid;
      signal([supervisor], "SIGCONT");
      await until("it was started again", () => servers.postgresPid !== before);
    },
    release: () => signal([...frozen.splice(0), supervisor], "SIGCONT"),
  };
}

/** Starts both, on free ports, with a database that is the same. */
export async function startPair({ synchronous = true } = {}): Promise<PostgresPair> {
  const first = await startEmbedded({ servers: ["postgres"] });
  const folder = await createTemporaryFolder();
  let second: EmbeddedServers | undefined;
  let primary: PairServer | undefined;
  let standby: PairServer | undefined;
  const stop = async () => {
    for (const one of [primary, standby]) one?.release();
    await Promise.all([primary?.sql.end({ timeout: 0 }), standby?.sql.end({ timeout: 0 })]);
    await Promise.all([second?.stop(), first.stop()]);
    await folder.release();
  };
  try {
    primary = await serverOf(first);
    await copyCluster(primary.sql, first.dataDir, folder.path, first.databaseUrl as string);
    second = await startEmbedded({ servers: ["postgres"], dataDir: folder.path });
    standby = await serverOf(second);
    if (synchronous) {
      await primary.sql.unsafe(`ALTER SYSTEM SET synchronous_standby_names = '${standbyName}'`);
      await primary.sql`SELECT pg_reload_conf()`;
    }
    // So that it can be promoted at once, however busy the machine is then.
    await standby.sql`SELECT 1`;
    const { sql } = primary;
    await until("the standby streams", async () => {
      const [row] =
        await sql`SELECT state, sync_state FROM pg_stat_replication WHERE application_name = ${standbyName}`;
      return row?.state === "streaming" && (!synchronous || row.sync_state === "sync");
    });
  } catch (error) {
    await stop();
    throw error;
  }
  const both = { primary, standby };
  const url = both.primary.url.replace(both.primary.address, `${both.primary.address},${both.standby.address}`);
  return {
    ...both,
    url: `${url}?target_session_attrs=read-write`,
    promote: async () => {
      const [row] = await both.standby.sql<[{ done: boolean }]>`SELECT pg_promote(true, 60) AS done`;
      if (!row.done) throw new Error("the standby was not promoted");
    },
    stop,
  };
}

/** The programs of a backup are not among those of the package, so files are copied between its beginning and its end. */
async function copyCluster(sql: Sql, from: string, to: string, url: string): Promise<void> {
  const { hostname, port, username, password } = new URL(url);
  const cluster = join(to, "postgres");
  const connection = await sql.reserve();
  await connection`SELECT pg_backup_start('standby', true)`;
  await run("cp", ["-a", join(from, "postgres"), cluster]);
  const [label] = await connection<[{ labelfile: string }]>`SELECT labelfile FROM pg_backup_stop(false)`;
  connection.release();
  await rm(join(cluster, "postmaster.pid"), { force: true });
  await writeFile(join(cluster, "backup_label"), label.labelfile);
  await writeFile(join(cluster, "standby.signal"), "");
  const source = `host=${hostname} port=${port} user=${username} password=${password} application_name=${standbyName}`;
  await appendFile(join(cluster, "postgresql.auto.conf"), `primary_conninfo = '${source}'\n`);
  // The same password, which Postgres has in its own tables.
  await copyFile(join(from, "secrets.json"), join(to, "secrets.json"));
  // As root, the servers run as an account that owns their files.
  const { uid, gid } = await stat(join(from, "postgres"));
  for (const name of ["backup_label", "standby.signal"]) await chown(join(cluster, name), uid, gid);
}
