import { existsSync } from "node:fs";
import { chown, rename, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { Account } from "./account.js";
import { type DataFolder, makePrivateFolder } from "./data-folder.js";
import { disownPostmasterFile, postgresFolder, postgresIsReady, stopPostgres } from "./orphans.js";
import { postgresPrograms } from "./postgres-programs.js";
import { runCommand } from "./run-command.js";
import { onFreePort, type RunningServers, type ServerProcess, startServer } from "./server-process.js";

const initTimeoutMs = 60_000;
/** Long enough to replay a full write-ahead log after a crash. */
const readyTimeoutMs = 120_000;
const user = "coupon";
const database = "coupon";

/** Nothing of the caller's environment may matter: neither its locale nor its time zone nor its PG variables. */
const environment: NodeJS.ProcessEnv = { PATH: "/usr/local/bin:/usr/bin:/bin", LC_ALL: "C", LANG: "C", TZ: "UTC" };

const settings: Readonly<Record<string, string>> = {
  listen_addresses: "127.0.0.1",
  unix_socket_directories: "",
  // Durability is the product: an answer that was given must survive a crash.
  fsync: "on",
  synchronous_commit: "on",
  max_connections: "200",
  shared_buffers: "256MB",
  max_wal_size: "2GB",
  checkpoint_timeout: "15min",
  jit: "off",
  autovacuum: "on",
  // Memory for parallel workers as files in the data folder, which is removed whatever happens; the other kinds stay
  // behind when the server is killed.
  dynamic_shared_memory_type: "mmap",
  timezone: "UTC",
  log_timezone: "UTC",
  // Refused statements are the caller's business. Under load they would fill the disk.
  log_min_messages: "log",
  log_checkpoints: "off",
};

/** Those that initdb would else find out by trials, which take time and use the other kinds of memory. */
const initialSettings = ["dynamic_shared_memory_type", "max_connections", "shared_buffers"];

export interface EmbeddedPostgres {
  readonly url: string;
  readonly server: ServerProcess;
  restart(): Promise<ServerProcess>;
}

export interface PostgresOptions {
  readonly folder: DataFolder;
  readonly account: Account | undefined;
  readonly password: string;
  readonly signal: AbortSignal;
  progress(text: string): void;
  readonly running: RunningServers;
}

export async function startPostgres(options: PostgresOptions): Promise<EmbeddedPostgres> {
  const { folder, account, password, signal, running } = options;
  const programs = await postgresPrograms(() => options.progress("copying the programs of Postgres, once"));
  if (!existsSync(postgresFolder(folder.path))) {
    await createCluster(programs, options);
  }
  const logFile = join(folder.path, "postgres.log");
  await rm(logFile, { force: true });
  const start = async (port: number): Promise<{ port: number; server: ServerProcess }> => {
    await disownPostmasterFile(folder.path);
    const flags = Object.entries({ ...settings, port: String(port) }).flatMap(([name, value]) => [
      "-c",
      `${name}=${value}`,
    ]);
    const command = {
      name: "postgres" as const,
      program: join(programs, "bin", "postgres"),
      args: ["-D", postgresFolder(folder.path), ...flags],
      env: environment,
      account,
      logFile,
      readyTimeoutMs,
      isReady: (pid: number) => postgresIsReady(folder.path, pid),
      stop: (pid: number) => stopPostgres(folder.path, pid),
      running,
    };
    return { port, server: await startServer(command, signal) };
  };
  const { port, server } = await onFreePort(start);
  return {
    url: `postgres://${user}:${password}@127.0.0.1:${port}/${database}`,
    server,
    restart: async () => (await start(port)).server,
  };
}

/** Makes the cluster and the database under another name, so that a start that was cut short leaves no half of them. */
async function createCluster(programs: string, { folder, account, password }: PostgresOptions): Promise<void> {
  const cluster = join(folder.path, "postgres.new");
  const passwordFile = join(folder.path, "postgres-password");
  // Not cancelled with the start: it takes half a second, and killed it leaves shared memory behind.
  const options = { timeoutMs: initTimeoutMs, env: environment, account };
  await rm(cluster, { recursive: true, force: true });
  await makePrivateFolder(cluster, account);
  await rm(passwordFile, { force: true });
  try {
    await writeFile(passwordFile, `${password}\n`, { mode: 0o600 });
    if (account !== undefined) {
      await chown(passwordFile, account.uid, account.gid);
    }
    const initFlags = [
      "--pwfile",
      passwordFile,
      "--auth=scram-sha-256",
      "--locale=C",
      "--encoding=UTF8",
      "--no-instructions",
    ];
    // A temporary cluster does not outlive the machine's crash anyway, so making one need not wait for the disk.
    const hurry = folder.temporary;
    const initSettings = initialSettings.flatMap((name) => ["-c", `${name}=${settings[name]}`]);
    const dataFlags = ["-D", cluster, "--username", user, ...(hurry ? ["--no-sync"] : [])];
    await runCommand(join(programs, "bin", "initdb"), [...dataFlags, ...initFlags, ...initSettings], options);
    // Single-user mode needs neither a port nor a password nor a driver. It reports an error only in what it prints.
    const single = ["--single", "-D", cluster, ...(hurry ? ["-F"] : []), "template1"];
    const input = `CREATE DATABASE ${database}\n`;
    const output = await runCommand(join(programs, "bin", "postgres"), single, { ...options, input });
    if (/(ERROR|FATAL|PANIC):/.test(output)) {
      throw new Error(`Could not create the database ${database}:\n${output}`);
    }
  } finally {
    await rm(passwordFile, { force: true });
  }
  await rename(cluster, postgresFolder(folder.path));
}
