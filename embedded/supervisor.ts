/**
 * The process that owns the embedded servers. It stands apart from the program that wants them, so that it survives
 * whatever happens to that one and can put everything away: it stops when its standard input ends, which the system
 * sees to even for a program that was killed outright.
 */
import { setTimeout as pause } from "node:timers/promises";
import { serverAccount } from "./account.js";
import {
  createTemporaryFolder,
  type DataFolder,
  openKeptFolder,
  removeAbandonedFolders,
  secretsOf,
} from "./data-folder.js";
import { keepRunning } from "./keep-running.js";
import { stopPostgres, stopRedis } from "./orphans.js";
import { startPostgres } from "./postgres.js";
import type { ReadyMessage, ServerName, SupervisorMessage, SupervisorOptions } from "./protocol.js";
import { type EmbeddedRedis, startRedis } from "./redis.js";
import type { RunningServers } from "./server-process.js";

/** Above the longest step that is not cancelled. */
const settleTimeoutMs = 90_000;

const options = JSON.parse(process.argv[2] ?? '{"servers":[]}') as SupervisorOptions;
const stopping = new AbortController();
const { signal } = stopping;
const running: RunningServers = new Map();
/** What must have settled before the servers are stopped, since until then it could start one. */
const tasks: Promise<unknown>[] = [];
let folder: DataFolder | undefined;
let stopped = false;

function send(message: SupervisorMessage): void {
  process.stdout.write(`${JSON.stringify(message)}\n`);
}

const progress = (text: string): void => send({ type: "progress", text });

/** Keeps a server running from now on. */
function supervise(name: ServerName, { server, restart }: Pick<EmbeddedRedis, "server" | "restart">): void {
  tasks.push(keepRunning(name, server, restart, send, signal));
}

async function start(): Promise<ReadyMessage> {
  const account = await serverAccount();
  const { dataDir, ifInUse } = options;
  folder = dataDir === undefined ? await createTemporaryFolder() : await openKeptFolder(dataDir, ifInUse);
  send({ type: "folder", path: folder.path, temporary: folder.temporary });
  signal.throwIfAborted();
  const secrets = await secretsOf(folder.path);
  const common = { folder, account, signal, running, progress };

  const withPostgres = async (): Promise<Partial<ReadyMessage>> => {
    const postgres = await startPostgres({ ...common, password: secrets.postgres });
    supervise("postgres", postgres);
    return { databaseUrl: postgres.url, postgresPid: postgres.server.pid };
  };
  const withRedis = async (): Promise<Partial<ReadyMessage>> => {
    try {
      const redis = await startRedis({ ...common, password: secrets.redis });
      supervise("redis", redis);
      const { url: redisUrl, cli } = redis;
      return { redisUrl, redisPid: redis.server.pid, ...(cli !== undefined && { redisCli: cli }) };
    } catch (error) {
      // The service can do without Redis, so the caller decides whether this matters.
      return { redisUnavailable: (error as Error).message };
    }
  };
  const redis = options.servers.includes("redis") ? withRedis() : {};
  const postgres = options.servers.includes("postgres") ? withPostgres() : {};
  return { type: "ready", dataDir: folder.path, ...(await postgres), ...(await redis) };
}

async function stop(exitCode: number): Promise<void> {
  if (stopped) {
    return;
  }
  stopped = true;
  stopping.abort();
  await Promise.race([Promise.allSettled(tasks), pause(settleTimeoutMs)]);
  const redisPid = running.get("redis");
  if (folder !== undefined) {
    await Promise.all([
      stopPostgres(folder.path, running.get("postgres")),
      redisPid === undefined ? undefined : stopRedis(redisPid),
    ]);
    await folder.release();
  }
  process.exit(exitCode);
}

/** The last line before an end that nobody asked for. */
function fail(error: unknown): void {
  if (!stopped) {
    send({ type: "failed", message: error instanceof Error ? error.message : String(error) });
  }
  stop(1).catch(() => process.exit(1));
}

// The caller's file mode mask must not decide who can read what.
process.umask(0o022);
const onEnd = (): void => void stop(0).catch(fail);
// A caller that is gone cannot read what is written to it.
process.stdout.on("error", onEnd);
process.stdin.on("end", onEnd).on("close", onEnd).on("error", onEnd).resume();
for (const name of ["SIGTERM", "SIGINT", "SIGHUP", "SIGQUIT"] as const) {
  process.on(name, onEnd);
}
process.on("uncaughtException", fail);
process.on("unhandledRejection", fail);
const starting = start();
tasks.push(
  starting,
  removeAbandonedFolders().catch(() => {}),
);
starting.then((message) => {
  if (!stopped) {
    send(message);
  }
}, fail);
