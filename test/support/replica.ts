import { type ChildProcess, spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { text } from "node:stream/consumers";
import { packageRoot } from "../../src/platform/package-root.js";
import { bundled } from "./bundle.mjs";
import { GrpcClient } from "./clients.js";
import { type Ports, startHosted } from "./replica-host.js";
import type { TestStores } from "./stores.js";

/** Only a start that hangs takes so long. */
const startTimeoutMs = 60_000;

/** The service, on free ports. */
export interface Replica extends Ports {
  readonly client: GrpcClient;
  /** What it has written to its log so far. */
  log(): string;
  /** As by SIGTERM, and waits for the end. */
  stop(): Promise<unknown>;
}

/** One that has a process of its own. */
export interface ReplicaProcess extends Replica {
  readonly process: ChildProcess;
  /** SIGTERM, and waits for the end; answers the exit code. */
  stop(): Promise<number | null>;
  /** kill -9, and waits for the end. */
  kill(): Promise<void>;
}

/** What a replica is started on; without `redisUrl` it keeps reservations itself. */
export type StoresOfReplica = Pick<TestStores, "databaseUrl" | "keyPrefix"> & {
  readonly redisUrl?: string | undefined;
};

/**
 * Starts the compiled service on the given stores, in a process of its own. It ends with this process, however that ends. `file` is for
 * tests that ask which modules are loaded: they start what `npm start` does, `builtFile()`.
 */
export async function startReplica(
  stores: StoresOfReplica,
  settings: Record<string, string> = {},
  file?: string,
): Promise<ReplicaProcess> {
  const child = spawn(process.execPath, [file ?? (await mainFile())], {
    env: { PATH: process.env.PATH, EXIT_ON_STDIN_CLOSE: "true", ...settingsOf(stores, settings) },
    stdio: ["pipe", "pipe", "inherit"],
  });
  const log = new Log();
  const exited = new Promise<number | null>((resolve) => child.once("exit", (code) => resolve(code)));
  const ports = await new Promise<Ports>((resolve, reject) => {
    const timer = setTimeout(() => reject(new Error("the service did not start in time")), startTimeoutMs);
    void exited.then((code) => reject(new Error(`the service ended with ${code} while it started`)));
    createInterface({ input: child.stdout as NodeJS.ReadableStream }).on("line", (line) => {
      log.add(line);
      if (!line.includes('"event":"serving"')) return;
      clearTimeout(timer);
      resolve(JSON.parse(line));
    });
  });
  const client = new GrpcClient(ports.grpcPort);
  return {
    ...ports,
    process: child,
    client,
    log: () => log.text,
    stop: async () => {
      client.close();
      child.kill("SIGTERM");
      return await exited;
    },
    kill: async () => {
      client.close();
      child.kill("SIGKILL");
      await exited;
    },
  };
}

/** The same in a process that it shares with others: for all tests that need not kill it, or look at it from outside. */
export async function startShared(
  place: number,
  stores: StoresOfReplica,
  settings: Record<string, string> = {},
): Promise<Replica> {
  builtFile();
  const log = new Log();
  const { stop, ...ports } = await startHosted(place, settingsOf(stores, settings), (line) => log.add(line));
  const client = new GrpcClient(ports.grpcPort);
  let stopped: Promise<void> | undefined;
  return {
    ...ports,
    client,
    log: () => log.text,
    stop: async () => {
      client.close();
      stopped ??= stop();
      await stopped;
    },
  };
}

/** What the build has made. */
export function builtFile(): string {
  const main = join(packageRoot(), "dist/src/main.js");
  if (!existsSync(main)) throw new Error("dist is missing: run `npm run build`");
  return main;
}

/** The same in a bundle, which is cheaper to start. */
export async function mainFile(): Promise<string> {
  builtFile();
  return (await bundled()).main;
}

function settingsOf({ databaseUrl, redisUrl, keyPrefix }: StoresOfReplica, settings: Record<string, string>) {
  return {
    HOST: "127.0.0.1",
    GRPC_PORT: "0",
    HTTP_PORT: "0",
    DATABASE_URL: databaseUrl,
    ...(redisUrl && { REDIS_URL: redisUrl }),
    REDIS_KEY_PREFIX: keyPrefix,
    LOG_LEVEL: "warn",
    ...settings,
  };
}

class Log {
  text = "";

  add(line: string): void {
    this.text += `${line}\n`;
    // What the service calls a fault is of use to whoever reads why a test failed.
    if (/"level":[56]0/.test(line)) process.stderr.write(`${line}\n`);
  }
}

/** Runs a command of the service, or a start that is to fail, until it ends. */
export async function runService(settings: Record<string, string>, ...args: readonly string[]) {
  const child = spawn(process.execPath, [await mainFile(), ...args], {
    env: { PATH: process.env.PATH, HOST: "127.0.0.1", GRPC_PORT: "0", HTTP_PORT: "0", LOG_LEVEL: "warn", ...settings },
    stdio: ["ignore", "pipe", "pipe"],
  });
  const ended = new Promise<number | null>((resolve) => child.once("exit", (code) => resolve(code)));
  const [out, errors] = await Promise.all([text(child.stdout), text(child.stderr)]);
  return { code: await ended, out, errors };
}
