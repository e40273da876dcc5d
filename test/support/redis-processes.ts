import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { mkdtemp, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { Redis } from "ioredis";
import { findRedis, type RedisProgram } from "../../embedded/redis-programs.js";
import { packageRoot } from "../../src/platform/package-root.js";
import { until } from "./until.js";

/** Of the server's own user, which servers use among themselves. */
export const adminPassword = "admin-secret";
/** What a service needs to be allowed, as deploy/redis-acl.conf has it, and a password with all that a URL gives a meaning to. */
export const serviceUser = "shop";
export const servicePassword = "p@ss:w/r#d%";
export const serviceUserInfo = `${serviceUser}:${encodeURIComponent(servicePassword)}`;

export type RedisCommand = [string, ...(string | number)[]];

/** Servers of one test file: they end, and their folder with them, when the process of the test does. */
export class RedisProcesses {
  private readonly pids = new Map<string, number>();
  private readonly connections = new Map<number, Redis>();

  private constructor(
    private readonly keeper: ChildProcess,
    private readonly folder: string,
    private readonly redis: RedisProgram,
  ) {
    createInterface({ input: keeper.stdout as NodeJS.ReadableStream }).on("line", (line) => {
      const { id, pid } = JSON.parse(line) as { id: string; pid?: number };
      if (pid === undefined) this.pids.delete(id);
      else this.pids.set(id, pid);
    });
  }

  static async open(): Promise<RedisProcesses> {
    const search = { account: undefined, signal: new AbortController().signal, progress: () => {} };
    const redis = await findRedis(search);
    const folder = await mkdtemp(join(tmpdir(), "coupon-redis-"));
    const keeper = spawn(process.execPath, [join(packageRoot(), "test/support/redis-keeper.mjs"), folder], {
      stdio: ["pipe", "pipe", "inherit"],
    });
    return new RedisProcesses(keeper, folder, redis);
  }

  /** A file for a server that is started after that. */
  async write(file: string, lines: readonly string[]): Promise<void> {
    await writeFile(join(this.folder, file), `${lines.join("\n")}\n`, { mode: 0o600 });
  }

  /** Starts a server on the file `ID.conf`; resolves when it answers. */
  async start(id: string, port: number, password: string, flags: readonly string[] = []): Promise<void> {
    const { program, env } = this.redis;
    const command = { id, program, args: [join(this.folder, `${id}.conf`), ...flags], env };
    this.keeper.stdin?.write(`${JSON.stringify(command)}\n`);
    await until(`${id} answers`, async () => (await this.ask(port, password, "PING")) === "PONG");
  }

  /** kill -9, and waits for the end. */
  async kill(id: string): Promise<void> {
    this.signal(id, "SIGKILL");
    await until(`${id} has ended`, () => !this.pids.has(id));
  }

  /** SIGSTOP or SIGCONT, say. */
  signal(id: string, signal: NodeJS.Signals): void {
    const pid = this.pids.get(id);
    if (pid === undefined) throw new Error(`${id} does not run`);
    process.kill(pid, signal);
  }

  isRunning(id: string): boolean {
    return this.pids.has(id);
  }

  /** One command, on a connection that is kept for the next one. */
  async ask(port: number, password: string, ...[name, ...args]: RedisCommand): Promise<unknown> {
    let connection = this.connections.get(port);
    if (connection?.status !== "ready") {
      connection?.disconnect();
      connection = new Redis({
        ...{ host: "127.0.0.1", port, password, lazyConnect: true, retryStrategy: () => null },
        ...{ commandTimeout: 2_000, connectTimeout: 1_000, enableReadyCheck: false },
      });
      connection.on("error", () => {});
      this.connections.set(port, connection);
      await connection.connect();
    }
    return await connection.call(name, ...args);
  }

  async close(): Promise<void> {
    for (const connection of this.connections.values()) connection.disconnect();
    const gone = once(this.keeper, "exit");
    this.keeper.stdin?.end();
    await gone;
  }
}

/** What all servers of a set have in their files, whether they are masters or replicas. */
export function dataServerLines(port: number): string[] {
  return [
    ...["bind 127.0.0.1", `port ${port}`, 'save ""', "appendonly no", "maxmemory-policy noeviction"],
    ...[`requirepass ${adminPassword}`, `masterauth ${adminPassword}`],
    redisUserLine(serviceUser, servicePassword, ["test_", "conformance-"]),
    // A replica that is new has its copy at once, and one that was left by its master is still good for one.
    ...["repl-diskless-sync-delay 0", "repl-ping-replica-period 1"],
  ];
}

/** The user of deploy/redis-acl.conf, with another name, and with keys that begin with one of these. */
export function redisUserLine(name: string, password: string, prefixes: readonly string[]): string {
  const text = readFileSync(join(packageRoot(), "deploy/redis-acl.conf"), "utf8");
  const [line, ...more] = text.split("\n").filter((one) => one.startsWith("user "));
  if (line === undefined || more.length > 0) throw new Error("deploy/redis-acl.conf must have one user");
  return line
    .replace(/^user \S+ off #0+ /, () => `user ${name} on >${password} `)
    .replace(" ~coupon:* ", () => ` ${prefixes.map((prefix) => `~${prefix}*`).join(" ")} `);
}

/** The lines `name:value` of INFO and of CLUSTER INFO. */
export function fieldsOf(info: unknown): ReadonlyMap<string, string> {
  const lines = String(info).split("\r\n");
  return new Map(lines.flatMap((line) => (line.includes(":") ? [line.split(/:(.*)/, 2) as [string, string]] : [])));
}
