import { randomBytes } from "node:crypto";
import { readlinkSync } from "node:fs";
import {
  chmod,
  chown,
  lstat,
  mkdir,
  mkdtemp,
  readdir,
  readFile,
  realpath,
  rename,
  rm,
  stat,
  writeFile,
} from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { type Account, runsAsRoot } from "./account.js";
import { takeLock } from "./folder-lock.js";
import { stopOrphans } from "./orphans.js";
import { processIdentity } from "./processes.js";
import { barredFolder } from "./reachable.js";

/** Root's folder can be entered by the account of the servers, and listed by root only. */
const folderMode = 0o711;

export interface DataFolder {
  readonly path: string;
  readonly temporary: boolean;
  /** Removes a temporary folder; frees a kept one for the next supervisor. To be called when the servers have ended. */
  release(): Promise<void>;
}

/** A new folder for this process alone, removed when it ends. */
export async function createTemporaryFolder(): Promise<DataFolder> {
  const parent = await temporaryParent();
  const path = await mkdtemp(join(parent, `${temporaryPrefix()}${process.pid}-`));
  await chmod(path, folderMode);
  return { path, temporary: true, release: () => removeFolder(path) };
}

/** Node's own way never ends where a folder is there in which none can be made, as in /proc. */
async function makeFolders(path: string): Promise<void> {
  const parent = dirname(path);
  const isThere = (folder: string) =>
    stat(folder).then(
      (found) => found.isDirectory(),
      () => false,
    );
  if (await isThere(path)) return;
  if (!(await isThere(parent)) && parent !== path) await makeFolders(parent);
  await mkdir(path, { mode: folderMode }).catch(async (error) => {
    if (!(await isThere(path))) throw error;
  });
}

/** A folder that outlives this process. Refused while another supervisor lives in it. */
export async function openKeptFolder(dataDir: string, ifInUse?: string): Promise<DataFolder> {
  await makeFolders(dataDir);
  const path = await realpath(dataDir);
  const barred = runsAsRoot() ? await barredFolder(path) : undefined;
  if (barred !== undefined) {
    throw new Error(
      `The data folder ${path} will not do: root starts the servers as an unprivileged account, which cannot enter ` +
        `${barred}. Choose another folder, or allow it with chmod o+x ${barred}`,
    );
  }
  const lock = await takeLock(path, ifInUse);
  try {
    await stopOrphans(path);
  } catch (error) {
    await rm(lock, { force: true });
    throw error;
  }
  return { path, temporary: false, release: () => rm(lock, { force: true }) };
}

/** A folder inside the data folder that belongs to the account of the servers and that only it can read. */
export async function makePrivateFolder(path: string, account: Account | undefined): Promise<void> {
  await mkdir(path, { recursive: true });
  await chmod(path, 0o700);
  if (account !== undefined) {
    await chown(path, account.uid, account.gid);
  }
}

/** The passwords of the two servers: made once for a folder, and kept there, readable by its owner only. */
export async function secretsOf(folder: string): Promise<{ postgres: string; redis: string }> {
  const path = join(folder, "secrets.json");
  const kept = await readFile(path, "utf8").catch(() => undefined);
  if (kept !== undefined) {
    return JSON.parse(kept) as { postgres: string; redis: string };
  }
  const secrets = { postgres: randomBytes(18).toString("hex"), redis: randomBytes(18).toString("hex") };
  await writeFile(`${path}.new`, JSON.stringify(secrets), { mode: 0o600 });
  await rename(`${path}.new`, path);
  return secrets;
}

/**
 * The name holds the process and its process namespace: containers may share a folder for temporary files, and there a
 * number that is free in one can be a living process in another.
 */
function temporaryPrefix(): string {
  let namespace = "0";
  try {
    namespace = /\d+/.exec(readlinkSync("/proc/self/ns/pid"))?.[0] ?? "0";
  } catch {
    // Not Linux: there is only one.
  }
  return `coupon-service-${namespace}-`;
}

async function temporaryParent(): Promise<string> {
  const candidates = [tmpdir(), "/tmp", "/var/tmp"];
  for (const candidate of candidates) {
    const path = await realpath(candidate).catch(() => undefined);
    if (path !== undefined && (!runsAsRoot() || (await barredFolder(path)) === undefined)) {
      return path;
    }
  }
  throw new Error(`None of ${candidates.join(", ")} can hold temporary data.`);
}

/** Removes what a supervisor that was killed together with its launcher left behind. */
export async function removeAbandonedFolders(): Promise<void> {
  const parent = await temporaryParent();
  const prefix = temporaryPrefix();
  for (const name of await readdir(parent)) {
    const pid = name.startsWith(prefix) ? Number.parseInt(name.slice(prefix.length), 10) : Number.NaN;
    const path = join(parent, name);
    if (Number.isNaN(pid) || processIdentity(pid) !== undefined) {
      continue;
    }
    const status = await lstat(path).catch(() => undefined);
    if (status?.isDirectory() && status.uid === process.getuid?.()) {
      await stopOrphans(path);
      await removeFolder(path);
    }
  }
}

/** Tries again for a while: after a crash of Postgres, its last sessions may still write as they end. */
export async function removeFolder(path: string): Promise<void> {
  await rm(path, { recursive: true, force: true, maxRetries: 10, retryDelay: 50 });
}
