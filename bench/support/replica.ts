import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";
import type { Readable } from "node:stream";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";

const frontEndMain = fileURLToPath(new URL("./front-end.js", import.meta.url));
const bareMain = fileURLToPath(new URL("./bare-server.js", import.meta.url));
/** As `npm start` and the image have them. */
const nodeFlags = ["--max-semi-space-size=32", "--no-allocation-site-pretenuring", "--heap-growing-percent=100"];
const serviceMain = fileURLToPath(new URL("../../src/main.js", import.meta.url));
/** From the start of the process to its "serving" line, migrations included. */
const startTimeoutMs = 30_000;
/** A replica that has not drained by then is killed. */
const drainTimeoutMs = 15_000;
/** How much of what a replica wrote is kept, to be shown when it fails. */
const maxTailLines = 40;

export interface Replica {
  readonly pid: number;
  readonly grpcPort: number;
  readonly httpPort: number;
  /** "127.0.0.1:<grpcPort>" */
  readonly target: string;
  /** How it ended, if it has: "SIGKILL", "code 1". */
  ended(): string | undefined;
  /** The last lines it wrote. */
  tail(): readonly string[];
  /** Lets it drain and waits for its end. */
  stop(): Promise<void>;
}

export interface ReplicaStores {
  readonly databaseUrl: string;
  readonly redisUrl: string | undefined;
}

interface Serving {
  readonly grpcPort: number;
  readonly httpPort: number;
}

export interface ReplicaOptions {
  /** Options of Node itself. */
  readonly nodeOptions?: readonly string[];
  /** More environment variables. */
  readonly settings?: Readonly<Record<string, string>>;
}

/**
 * Starts one replica of the service as a process of its own, on free ports. Its stdin is a pipe to this process: when
 * that closes, for whatever reason this process ended, the replica drains and ends, too.
 */
export function startReplica(stores: ReplicaStores, options: ReplicaOptions = {}): Promise<Replica> {
  const settings = {
    DATABASE_URL: stores.databaseUrl,
    ...(stores.redisUrl === undefined ? {} : { REDIS_URL: stores.redisUrl }),
    ...options.settings,
  };
  return startServer(serviceMain, settings, options.nodeOptions);
}

/** Starts the gRPC front end with nothing behind it. */
export function startFrontEnd(): Promise<Replica> {
  return startServer(frontEndMain, {});
}

/** Starts grpc-js alone. */
export function startBareServer(): Promise<Replica> {
  return startServer(bareMain, {});
}

async function startServer(
  main: string,
  settings: Record<string, string>,
  nodeOptions: readonly string[] = [],
): Promise<Replica> {
  const { REDIS_URL: _, ...inherited } = process.env;
  const child = spawn(process.execPath, [...nodeFlags, ...nodeOptions, main], {
    stdio: ["pipe", "pipe", "pipe"],
    env: {
      ...inherited,
      HOST: "127.0.0.1",
      GRPC_PORT: "0",
      HTTP_PORT: "0",
      LOG_LEVEL: "warn",
      EXIT_ON_STDIN_CLOSE: "1",
      ...settings,
    },
  });
  // Writing to the stdin of a replica that was killed is no failure of ours.
  child.stdin.on("error", () => {});
  const tail: string[] = [];
  const keep = (line: string) => {
    tail.push(line);
    if (tail.length > maxTailLines) tail.shift();
  };
  try {
    const serving = await servingLine(child, child.stdout, child.stderr, keep);
    return {
      pid: child.pid!,
      ...serving,
      target: `127.0.0.1:${serving.grpcPort}`,
      ended: () => howEnded(child),
      tail: () => tail,
      stop: () => stopChild(child),
    };
  } catch (error) {
    child.kill("SIGKILL");
    throw new Error(`${(error as Error).message}\n${tail.join("\n")}`);
  }
}

function servingLine(child: ChildProcess, stdout: Readable, stderr: Readable, keep: (line: string) => void) {
  return new Promise<Serving>((resolve, reject) => {
    const timer = setTimeout(
      () => reject(new Error(`The service did not start within ${startTimeoutMs} ms.`)),
      startTimeoutMs,
    );
    child.once("error", reject);
    child.once("exit", () => {
      clearTimeout(timer);
      reject(new Error(`The service ended while it started (${howEnded(child)}).`));
    });
    // Both streams are read to the end: a full pipe would stop the service.
    createInterface(stderr).on("line", keep);
    createInterface(stdout).on("line", (line) => {
      const serving = parseServing(line);
      if (!serving) {
        keep(line);
        return;
      }
      clearTimeout(timer);
      resolve(serving);
    });
  });
}

function parseServing(line: string): Serving | undefined {
  if (!line.startsWith("{")) return undefined;
  try {
    const { event, grpcPort, httpPort } = JSON.parse(line);
    return event === "serving" ? { grpcPort, httpPort } : undefined;
  } catch {
    return undefined;
  }
}

function howEnded(child: ChildProcess): string | undefined {
  return child.signalCode ?? (child.exitCode === null ? undefined : `code ${child.exitCode}`);
}

async function stopChild(child: ChildProcess): Promise<void> {
  if (howEnded(child) !== undefined) return;
  const exited = once(child, "exit");
  child.stdin?.end();
  const drained = await Promise.race([exited, sleep(drainTimeoutMs, undefined, { ref: false })]);
  if (!drained) {
    child.kill("SIGKILL");
    await exited;
  }
}
