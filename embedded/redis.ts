import { chown, rm, writeFile } from "node:fs/promises";
import { connect } from "node:net";
import { join } from "node:path";
import type { Account } from "./account.js";
import { type DataFolder, makePrivateFolder } from "./data-folder.js";
import { noteRedis, stopRedis } from "./orphans.js";
import { findRedis, redisCliOf } from "./redis-programs.js";
import { onFreePort, type RunningServers, type ServerProcess, startServer } from "./server-process.js";

const readyTimeoutMs = 30_000;
const pingTimeoutMs = 1_000;

export interface EmbeddedRedis {
  readonly url: string;
  /** How a shell has the command line that came with it speak to it, password and all; undefined: it came without one. */
  readonly cli: string | undefined;
  readonly server: ServerProcess;
  restart(): Promise<ServerProcess>;
}

export interface RedisOptions {
  readonly folder: DataFolder;
  readonly account: Account | undefined;
  readonly password: string;
  readonly signal: AbortSignal;
  progress(text: string): void;
  readonly running: RunningServers;
}

export async function startRedis(options: RedisOptions): Promise<EmbeddedRedis> {
  const { folder, account, password, signal, running } = options;
  const found = await findRedis(options);
  const { program, env } = found;
  await makePrivateFolder(join(folder.path, "redis"), account);
  const logFile = join(folder.path, "redis.log");
  await rm(logFile, { force: true });
  const start = async (port: number): Promise<{ port: number; server: ServerProcess }> => {
    const configFile = await writeConfig(options, port);
    const command = {
      name: "redis" as const,
      program,
      args: [configFile],
      env,
      account,
      logFile,
      readyTimeoutMs,
      isReady: async (pid: number) => {
        await noteRedis(folder.path, pid);
        return answersPing(port, password);
      },
      stop: stopRedis,
      running,
    };
    return { port, server: await startServer(command, signal) };
  };
  const { port, server } = await onFreePort(start);
  const cli = await redisCliOf(found);
  return {
    url: `redis://:${password}@127.0.0.1:${port}`,
    // Not by the URL: some releases take the name before the colon for an empty one, and not for none.
    cli: cli && `${cli} -h 127.0.0.1 -p ${port} -a ${password}`,
    server,
    restart: async () => (await start(port)).server,
  };
}

/** A file and not flags, because everybody on the machine can read the flags of a process, and one holds the password. */
async function writeConfig({ folder, account, password }: RedisOptions, port: number): Promise<string> {
  const lines = [
    "bind 127.0.0.1",
    `port ${port}`,
    `requirepass ${password}`,
    "daemonize no",
    'logfile ""',
    `dir "${join(folder.path, "redis")}"`,
    'save ""',
    // What is kept outlives a restart. A temporary one starts empty by definition, and need not write.
    ...(folder.temporary ? ["appendonly no"] : ["appendonly yes", "appendfsync everysec"]),
    // Stock and reservations must never be evicted in silence: better an error, which Postgres then decides.
    "maxmemory-policy noeviction",
  ];
  const path = join(folder.path, "redis.conf");
  await writeFile(path, `${lines.join("\n")}\n`, { mode: 0o600 });
  if (account !== undefined) {
    await chown(path, account.uid, account.gid);
  }
  return path;
}

/** With the password, so that another server which took the port does not count as ours. */
function answersPing(port: number, password: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect({ host: "127.0.0.1", port });
    let reply = "";
    const settle = (ready: boolean): void => {
      socket.destroy();
      resolve(ready);
    };
    socket.setTimeout(pingTimeoutMs, () => settle(false));
    socket.setEncoding("utf8");
    socket.once("connect", () => socket.write(`AUTH ${password}\r\nPING\r\n`));
    socket.once("error", () => settle(false));
    socket.once("close", () => settle(false));
    socket.on("data", (chunk: string) => {
      reply += chunk;
      if (reply.startsWith("-") || reply.includes("\n-")) {
        settle(false);
      } else if (reply.includes("+PONG")) {
        settle(true);
      }
    });
  });
}
