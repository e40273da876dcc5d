import { type ChildProcessByStdio, spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { homedir } from "node:os";
import { dirname, isAbsolute, join, resolve } from "node:path";
import type { Readable, Writable } from "node:stream";
import { fileURLToPath } from "node:url";
import { runsAsRoot } from "./account.js";
import { removeFolder } from "./data-folder.js";
import { lockHolder } from "./folder-lock.js";
import { JsonLines } from "./json-lines.js";
import { lastLines } from "./log-tail.js";
import { stopOrphans } from "./orphans.js";
import type { EmbeddedEvent, ReadyMessage, ServerName, SupervisorMessage, SupervisorOptions } from "./protocol.js";

export type { EmbeddedEvent } from "./protocol.js";

/** Above the sum of the supervisor's own limits, downloads included; it reports the better error. */
const startTimeoutMs = 420_000;
const stopTimeoutMs = 25_000;

export interface EmbeddedOptions {
  /** Keeps the data here and reuses it at the next start. Absent: a new temporary folder, removed at the end. */
  readonly dataDir?: string;
  /** What people are told to do when another process uses the folder; absent: to stop that one. */
  readonly ifInUse?: string;
  /** Default: both. */
  readonly servers?: readonly ServerName[];
  /** Told of slow steps, of servers that died and came back, and of the loss of all. */
  readonly onEvent?: (event: EmbeddedEvent) => void;
  /** Aborted while they start: what has started is stopped, and the promise rejects with the reason. Of no effect later. */
  readonly signal?: AbortSignal;
}

export interface EmbeddedServers {
  readonly databaseUrl: string | undefined;
  /** Undefined also when no Redis can be had on this machine; then {@link redisUnavailable} says why. */
  readonly redisUrl: string | undefined;
  readonly redisUnavailable: string | undefined;
  /** How a shell has the command line that came with Redis speak to it, password and all; undefined: it came without one. */
  readonly redisCli: string | undefined;
  /** The latest process: it changes when a server dies and is started again. */
  readonly postgresPid: number | undefined;
  readonly redisPid: number | undefined;
  readonly dataDir: string;
  /** Stops both servers; resolves when they are gone, and with them a temporary folder. */
  stop(): Promise<void>;
}

/**
 * Starts Postgres and Redis on free ports of 127.0.0.1, under a supervisor process that stops them when this process
 * ends, however it ends. They do not keep this process alive.
 */
export async function startEmbedded(options: EmbeddedOptions = {}): Promise<EmbeddedServers> {
  const { dataDir, ifInUse, servers = ["postgres", "redis"], onEvent = () => {}, signal } = options;
  // The supervisor works in the root folder, so a path relative to ours is resolved here.
  const passed: SupervisorOptions = {
    servers,
    ...(dataDir === undefined ? {} : { dataDir: resolve(dataDir) }),
    ...(ifInUse === undefined ? {} : { ifInUse }),
  };
  const supervisor = spawnSupervisor(passed);
  const { ready, current, ended } = await untilReady(supervisor, onEvent, signal);
  let stopping: Promise<void> | undefined;
  void ended.then(async () => {
    if (stopping === undefined) {
      await cleanUp(current).catch(() => {});
      onEvent({ type: "lost", reason: "The process that supervises the embedded servers has ended." });
    }
  });
  // From here on the caller may end whenever it has nothing more to do.
  setReferenced(supervisor, false);

  const stop = async (): Promise<void> => {
    setReferenced(supervisor, true);
    if ((await endSupervisor(supervisor, ended)) !== 0) {
      await cleanUp(current);
    }
  };
  return {
    databaseUrl: ready.databaseUrl,
    redisUrl: ready.redisUrl,
    redisUnavailable: ready.redisUnavailable,
    redisCli: ready.redisCli,
    dataDir: ready.dataDir,
    get postgresPid() {
      return current.pids.postgres;
    },
    get redisPid() {
      return current.pids.redis;
    },
    stop() {
      stopping ??= stop();
      return stopping;
    },
  };
}

/** Where a program that is started by hand keeps its data between two runs. */
export function defaultDataDir(): string {
  if (runsAsRoot()) {
    // Not in root's home, which the unprivileged account of the servers cannot enter.
    return "/var/lib/coupon-service";
  }
  const xdg = process.env.XDG_DATA_HOME;
  const parent = xdg !== undefined && isAbsolute(xdg) ? xdg : join(homedir(), ".local", "share");
  return join(parent, "coupon-service");
}

type Supervisor = ChildProcessByStdio<Writable, Readable, Readable>;

interface Current {
  folder: { readonly path: string; readonly temporary: boolean } | undefined;
  readonly pids: { postgres: number | undefined; redis: number | undefined };
}

function spawnSupervisor(options: SupervisorOptions): Supervisor {
  // Options meant for this process, such as a debugger's port or a loader, would break or slow down the supervisor.
  const { NODE_OPTIONS: _options, NODE_V8_COVERAGE: _coverage, ...env } = process.env;
  // In a session of its own, out of reach of a Ctrl-C, which goes to all processes of a terminal's foreground group.
  return spawn(process.execPath, [supervisorFile(), JSON.stringify(options)], {
    cwd: "/",
    detached: true,
    env,
    stdio: ["pipe", "pipe", "pipe"],
  });
}

/** The compiled supervisor, also when this file itself is run from its source, as tests do. */
function supervisorFile(): string {
  const here = dirname(fileURLToPath(import.meta.url));
  let root = here;
  while (!existsSync(join(root, "package.json")) && dirname(root) !== root) {
    root = dirname(root);
  }
  const compiled = join(root, "dist", "embedded", "supervisor.js");
  const file = [join(here, "supervisor.js"), compiled].find((candidate) => existsSync(candidate));
  if (file === undefined) {
    throw new Error(`${compiled} is missing: run "npm run build" first.`);
  }
  return file;
}

interface Started {
  readonly ready: ReadyMessage;
  readonly current: Current;
  /** Resolves with the exit code of the supervisor, null if it was killed. */
  readonly ended: Promise<number | null>;
}

function untilReady(
  supervisor: Supervisor,
  onEvent: (event: EmbeddedEvent) => void,
  signal?: AbortSignal,
): Promise<Started> {
  const current: Current = { folder: undefined, pids: { postgres: undefined, redis: undefined } };
  const ended = new Promise<number | null>((done) => {
    supervisor.once("close", done);
  });
  return new Promise((done, reject) => {
    let failure: string | undefined;
    let errors = "";
    const giveUp = () => void endSupervisor(supervisor, ended);
    const timer = setTimeout(giveUp, startTimeoutMs);
    const settled = () => {
      clearTimeout(timer);
      signal?.removeEventListener("abort", giveUp);
    };
    if (signal?.aborted) giveUp();
    else signal?.addEventListener("abort", giveUp);
    supervisor.once("error", (error) => {
      failure = error.message;
    });
    // It may be gone before we are; its exit tells us.
    supervisor.stdin.on("error", () => {});
    supervisor.stderr.setEncoding("utf8").on("data", (text: string) => {
      errors = lastLines(errors + text);
    });
    const lines = new JsonLines<SupervisorMessage>((message) => {
      switch (message.type) {
        case "folder":
          current.folder = message;
          break;
        case "failed":
          failure = message.message;
          break;
        case "ready":
          settled();
          Object.assign(current.pids, { postgres: message.postgresPid, redis: message.redisPid });
          done({ ready: message, current, ended });
          break;
        default:
          if (message.type === "restarted") {
            current.pids[message.server] = message.pid;
          }
          onEvent(message);
      }
    });
    supervisor.stdout.setEncoding("utf8").on("data", (text: string) => lines.push(text));
    void ended.then(async (code) => {
      settled();
      if (code !== 0) {
        await cleanUp(current).catch(() => {});
      }
      const late = `The embedded servers did not start within ${startTimeoutMs / 1000} s.`;
      reject(signal?.aborted ? signal.reason : new Error(failure ?? (errors || late)));
    });
  });
}

/** Tells the supervisor to stop everything, and kills it should it not manage; answers its exit code. */
async function endSupervisor(supervisor: Supervisor, ended: Promise<number | null>): Promise<number | null> {
  supervisor.stdin.end();
  const timer = setTimeout(() => supervisor.kill("SIGKILL"), stopTimeoutMs);
  const code = await ended;
  clearTimeout(timer);
  return code;
}

/** Does what the supervisor could not, if it was killed. A kept folder may be in the hands of another one by now. */
async function cleanUp({ folder }: Current): Promise<void> {
  if (folder?.temporary) {
    await stopOrphans(folder.path);
    await removeFolder(folder.path);
  } else if (folder !== undefined && (await lockHolder(folder.path)) === undefined) {
    await stopOrphans(folder.path);
  }
}

function setReferenced(supervisor: Supervisor, referenced: boolean): void {
  const method = referenced ? "ref" : "unref";
  supervisor[method]();
  for (const stream of [supervisor.stdin, supervisor.stdout, supervisor.stderr]) {
    // A pipe to a child is a socket, which the types of the streams do not tell.
    (stream as unknown as { ref(): void; unref(): void })[method]();
  }
}
