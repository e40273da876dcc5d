import { readdir, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as pause } from "node:timers/promises";
import { processIdentity } from "./processes.js";

const maxLockTries = 20;
const lockPauseMs = 25;
const lockName = /^lock\.(\d+)\.(\w+)$/;

/**
 * Each supervisor puts a lock file of its own beside those of the others, then looks who else is there. Of two that come
 * at once, at least one sees the other and steps back, both perhaps, to try again after a random pause. One shared file
 * would not do: taking over the one of a dead process is a race between those who find it. `advice` is for people who cannot
 * have it.
 */
export async function takeLock(folder: string, advice = "Stop that one first."): Promise<string> {
  const own = join(folder, `lock.${process.pid}.${processIdentity(process.pid) ?? "0"}`);
  for (let tries = 1; ; tries++) {
    await writeFile(own, "", { mode: 0o600 });
    const holder = await lockHolder(folder);
    if (holder === undefined) {
      return own;
    }
    await rm(own, { force: true });
    if (tries === maxLockTries) {
      throw new Error(`The data folder ${folder} is in use by process ${holder}. ${advice}`);
    }
    await pause(lockPauseMs * (1 + Math.random()));
  }
}

/** The living process, other than this one, that holds a folder. */
export async function lockHolder(folder: string): Promise<number | undefined> {
  for (const name of await readdir(folder)) {
    const [, pidText, identity] = lockName.exec(name) ?? [];
    const pid = Number(pidText);
    if (pidText === undefined || pid === process.pid) {
      continue;
    }
    if (processIdentity(pid) === identity) {
      return pid;
    }
    await rm(join(folder, name), { force: true });
  }
  return undefined;
}
