import { type ChildProcess, spawn } from "node:child_process";
import { chmodSync, existsSync, mkdtempSync, rmSync } from "node:fs";
import { join } from "node:path";
import { text as textOf } from "node:stream/consumers";
import { setTimeout as pause } from "node:timers/promises";
import { pathToFileURL } from "node:url";
import { Redis } from "ioredis";
import postgres from "postgres";
import { afterEach, expect, onTestFinished, test } from "vitest";
import { type EmbeddedOptions, type EmbeddedServers, startEmbedded } from "../../embedded/embedded.js";
import { lockHolder } from "../../embedded/folder-lock.js";
import { processIdentity } from "../../embedded/processes.js";

/** Covers the first download on a slow line; a warm start takes a second. */
const testTimeoutMs = 300_000;
const goneTimeoutMs = 30_000;
const pollIntervalMs = 50;
const compiledLauncher = join(process.cwd(), "dist", "embedded", "embedded.js");

const started: EmbeddedServers[] = [];

async function start(options: EmbeddedOptions = {}): Promise<EmbeddedServers> {
  const servers = await startEmbedded(options);
  started.push(servers);
  return servers;
}

afterEach(async () => {
  await Promise.all(started.splice(0).map((servers) => servers.stop()));
});

/** A folder that the unprivileged account of root's servers can reach, unlike a new one or a private TMPDIR. */
function dataFolder(): string {
  const folder = mkdtempSync("/tmp/embedded-test-");
  chmodSync(folder, 0o711);
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }));
  return join(folder, "data");
}

async function until(what: string, holds: () => boolean | Promise<boolean>): Promise<void> {
  const deadline = Date.now() + goneTimeoutMs;
  while (!(await holds())) {
    if (Date.now() > deadline) {
      throw new Error(`Waited ${goneTimeoutMs / 1000} s in vain until ${what}.`);
    }
    await pause(pollIntervalMs);
  }
}

async function query<T>(servers: EmbeddedServers, run: (sql: postgres.Sql) => Promise<T>): Promise<T> {
  const sql = postgres(servers.databaseUrl!, { max: 1 });
  try {
    return await run(sql);
  } finally {
    await sql.end();
  }
}

async function ping(url: string): Promise<string> {
  const redis = new Redis(url, { lazyConnect: true, retryStrategy: () => null, maxRetriesPerRequest: 0 });
  redis.on("error", () => {});
  try {
    await redis.connect();
    return await redis.ping();
  } finally {
    redis.disconnect();
  }
}

const isGone = (pid: number | undefined): boolean => pid === undefined || processIdentity(pid) === undefined;

test("both servers answer, and a stop leaves no process and no folder", { timeout: testTimeoutMs }, async () => {
  const servers = await start();
  const rows = await query(
    servers,
    (sql) => sql`
      SELECT current_database() AS database, current_setting('fsync') AS fsync,
             current_setting('synchronous_commit') AS commit, current_setting('TimeZone') AS zone,
             current_setting('server_encoding') AS encoding, current_setting('listen_addresses') AS addresses`,
  );
  expect(rows[0]).toEqual({
    database: "coupon",
    fsync: "on",
    commit: "on",
    zone: "UTC",
    encoding: "UTF8",
    addresses: "127.0.0.1",
  });
  const { postgresPid, redisPid, redisUrl, dataDir } = servers;
  if (redisUrl !== undefined) {
    expect(await ping(redisUrl)).toBe("PONG");
    await expect(ping(redisUrl.replace(/:[^:@]*@/, ":wrong@"))).rejects.toThrow();
  }
  await servers.stop();
  expect([isGone(postgresPid), isGone(redisPid), existsSync(dataDir)]).toEqual([true, true, false]);
  expect(redisUrl, servers.redisUnavailable).toBeDefined();
});

test("one of the two can be asked for alone", { timeout: testTimeoutMs }, async () => {
  const servers = await start({ servers: ["postgres"] });
  expect(servers.redisUrl).toBeUndefined();
  expect(servers.redisPid).toBeUndefined();
  expect(await query(servers, (sql) => sql`SELECT 1 AS one`)).toEqual([{ one: 1 }]);
});

test("killing the program outright leaves no process and no folder", { timeout: testTimeoutMs }, async () => {
  const script = `
    const { startEmbedded } = await import(${JSON.stringify(pathToFileURL(compiledLauncher).href)});
    const { dataDir, postgresPid, redisPid } = await startEmbedded();
    process.stdout.write(JSON.stringify({ dataDir, pids: [postgresPid, redisPid] }) + "\\n");
    setInterval(() => {}, 1000);`;
  const program = spawn(process.execPath, ["--input-type=module", "-e", script], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  const { dataDir, pids } = JSON.parse(await firstLine(program)) as { dataDir: string; pids: (number | undefined)[] };
  expect(existsSync(dataDir)).toBe(true);
  expect(isGone(pids[0])).toBe(false);
  program.kill("SIGKILL");
  await until("the servers are gone", () => pids.every(isGone));
  await until("the folder is gone", () => !existsSync(dataDir));
});

test("a kept folder keeps its rows, also when Postgres and the program were killed", {
  timeout: testTimeoutMs,
}, async () => {
  const alone: EmbeddedOptions = { servers: ["postgres"] };
  const dataDir = dataFolder();
  const first = await start({ ...alone, dataDir });
  await query(first, (sql) => sql`CREATE TABLE kept (value int)`);
  await query(first, (sql) => sql`INSERT INTO kept VALUES (1)`);
  await first.stop();
  expect(isGone(first.postgresPid)).toBe(true);

  const second = await start({ ...alone, dataDir });
  expect(await query(second, (sql) => sql`SELECT value FROM kept`)).toEqual([{ value: 1 }]);
  await query(second, (sql) => sql`INSERT INTO kept VALUES (2)`);
  // The stop comes before the restart, so the next start finds what a killed Postgres leaves.
  process.kill(second.postgresPid!, "SIGKILL");
  await second.stop();

  const third = await start({ ...alone, dataDir });
  expect(await query(third, (sql) => sql`SELECT value FROM kept ORDER BY value`)).toEqual([{ value: 1 }, { value: 2 }]);
});

test("the command line of Redis is called as it is told", { timeout: testTimeoutMs }, async () => {
  const { redisCli } = await start({ servers: ["redis"] });
  if (redisCli === undefined) return;
  const shell = spawn("/bin/sh", ["-c", `${redisCli} --no-auth-warning flushall`], {
    env: {},
    stdio: ["ignore", "pipe", "inherit"],
  });
  expect((await textOf(shell.stdout)).trim()).toBe("OK");
});

test("a folder in use is refused, and its servers go on", { timeout: testTimeoutMs }, async () => {
  const dataDir = dataFolder();
  const first = await start({ dataDir, servers: ["redis"] });
  await expect(start({ dataDir })).rejects.toThrow(/is in use by process \d+\. Stop that one first\.$/);
  await expect(start({ dataDir, ifInUse: "Wait." })).rejects.toThrow(/is in use by process \d+\. Wait\.$/);
  expect(await ping(first.redisUrl as string)).toBe("PONG");
});

test("a start that is not wanted any more is given up", { timeout: testTimeoutMs }, async () => {
  const dataDir = dataFolder();
  const stopping = new AbortController();
  const reason = new Error("not wanted any more");
  const starting = start({ dataDir, signal: stopping.signal });
  const given = expect(starting).rejects.toBe(reason);
  await until("the folder is in use", async () => existsSync(dataDir) && (await lockHolder(dataDir)) !== undefined);
  stopping.abort(reason);
  await given;
  expect(await lockHolder(dataDir)).toBeUndefined();
});

test("servers that are killed come back on their ports", { timeout: testTimeoutMs }, async () => {
  const restarted: string[] = [];
  const servers = await start({
    onEvent: (event) => {
      if (event.type === "restarted") {
        restarted.push(event.server);
      }
    },
  });
  await query(servers, (sql) => sql`CREATE TABLE survives (value int)`);
  const { postgresPid, redisPid, redisUrl } = servers;
  process.kill(postgresPid!, "SIGKILL");
  if (redisPid !== undefined) {
    process.kill(redisPid, "SIGKILL");
  }
  await until("the servers are back", () => restarted.length === (redisPid === undefined ? 1 : 2));
  expect(servers.postgresPid).not.toBe(postgresPid);
  expect(await query(servers, (sql) => sql`SELECT * FROM survives`)).toEqual([]);
  expect(redisUrl, servers.redisUnavailable).toBeDefined();
  expect(servers.redisPid).not.toBe(redisPid);
  expect(await ping(redisUrl!)).toBe("PONG");
});

function firstLine(program: ChildProcess): Promise<string> {
  return new Promise((resolve, reject) => {
    let text = "";
    program.stdout!.setEncoding("utf8").on("data", (chunk: string) => {
      text += chunk;
      if (text.includes("\n")) {
        resolve(text.slice(0, text.indexOf("\n")));
      }
    });
    program.once("exit", (code) => reject(new Error(`The program ended with ${code} before it printed a line.`)));
  });
}
