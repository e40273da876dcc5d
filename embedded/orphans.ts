import { execFile } from "node:child_process";
import { constants } from "node:fs";
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { commandLine, processIdentity, type StopStep, stopProcess } from "./processes.js";

const stopTimeoutMs = 5_000;
const removeSegmentTimeoutMs = 5_000;

/** SIGINT is Postgres's fast shutdown: it ends the sessions and writes everything. SIGQUIT leaves that to the next start. */
const postgresStop: readonly StopStep[] = [
  { signal: "SIGINT", waitMs: stopTimeoutMs },
  { signal: "SIGQUIT", waitMs: stopTimeoutMs },
  { signal: "SIGKILL", waitMs: stopTimeoutMs },
];
const redisStop: readonly StopStep[] = [
  { signal: "SIGTERM", waitMs: stopTimeoutMs },
  { signal: "SIGKILL", waitMs: stopTimeoutMs },
];

export const postgresFolder = (dataDir: string): string => join(dataDir, "postgres");
const postmasterFile = (dataDir: string): string => join(postgresFolder(dataDir), "postmaster.pid");
const redisPidFile = (dataDir: string): string => join(dataDir, "redis.pid");

/** The lines of Postgres's own pid file, [] when there is none. */
async function postmasterLines(dataDir: string): Promise<string[]> {
  return (await readFile(postmasterFile(dataDir), "utf8").catch(() => "")).split("\n");
}

export async function postgresIsReady(dataDir: string, pid: number): Promise<boolean> {
  const lines = await postmasterLines(dataDir);
  // A folder that was copied from another server's may be that one's standby.
  return Number(lines[0]) === pid && ["ready", "standby"].includes(lines[7]?.trim() ?? "");
}

/** Without a number: it is dead already, and only what it left is put away. */
export async function stopPostgres(dataDir: string, pid?: number): Promise<void> {
  if (pid !== undefined) {
    await stopProcess(pid, postgresStop);
  }
  const segment = (await postmasterLines(dataDir))[6]?.trim().split(/\s+/)[1];
  if (segment !== undefined) {
    // The file is still there, so it was killed outright, and left the shared memory that marks its folder as taken.
    await new Promise<void>((resolve) => {
      execFile("ipcrm", ["-m", segment], { timeout: removeSegmentTimeoutMs }, () => resolve());
    });
  }
}

export async function stopRedis(pid: number): Promise<void> {
  await stopProcess(pid, redisStop);
}

/** Notes which process is the Redis of this folder, for {@link stopOrphans}. Redis itself would write no start time. */
export async function noteRedis(dataDir: string, pid: number): Promise<void> {
  await writeFile(redisPidFile(dataDir), `${pid} ${processIdentity(pid) ?? "gone"}`, { mode: 0o600 });
}

/** Stops the servers of a folder whose supervisor was killed and could not do it. */
export async function stopOrphans(dataDir: string): Promise<void> {
  const postgresPid = Number((await postmasterLines(dataDir))[0]);
  const [redisPid, redisIdentity] = (await readFile(redisPidFile(dataDir), "utf8").catch(() => "")).split(" ");
  // A number in an old file may long belong to another process, so each is compared with what we know of ours.
  const ownsFolder = commandLine(postgresPid).includes(postgresFolder(dataDir));
  const stops = [stopPostgres(dataDir, ownsFolder ? postgresPid : undefined)];
  if (redisPid && processIdentity(Number(redisPid)) === redisIdentity) {
    stops.push(stopRedis(Number(redisPid)));
  }
  await Promise.all(stops);
}

/**
 * Makes a pid file that a killed Postgres left acceptable to the next one. Postgres refuses to start when the number in
 * it belongs to any living process, but ignores the one of its own parent: us. The file must not be removed instead,
 * since it names the memory by which Postgres makes sure that no backend of the former one is still at work.
 */
export async function disownPostmasterFile(dataDir: string): Promise<void> {
  const [pid, ...rest] = await postmasterLines(dataDir);
  if (pid) {
    // The folder belongs to the account of the server, which must not be able to lead root to a file elsewhere.
    const flag = constants.O_WRONLY | constants.O_TRUNC | constants.O_NOFOLLOW;
    await writeFile(postmasterFile(dataDir), [process.pid, ...rest].join("\n"), { flag });
  }
}
