import { randomBytes } from "node:crypto";
import { constants, existsSync } from "node:fs";
import { access, chmod, lstat, mkdir, readdir, rename, rm } from "node:fs/promises";
import { homedir, tmpdir } from "node:os";
import { isAbsolute, join } from "node:path";
import { runsAsRoot } from "./account.js";
import { barredFolder } from "./reachable.js";

/** Far longer than any build takes, so what is older was left by a process that was killed. */
const abandonedAfterMs = 3_600_000;
const writableByOthers = 0o022;

function homeFolder(): string | undefined {
  try {
    return homedir();
  } catch {
    return undefined; // The user has no entry in the account file and no HOME.
  }
}

/** Where programs may be cached, best first. Root's must be readable by the account of the servers, so not its home. */
function candidates(): string[] {
  const inTemporary = join(tmpdir(), `coupon-service-cache-${process.getuid?.() ?? "user"}`);
  if (runsAsRoot()) {
    return ["/var/cache/coupon-service", inTemporary, "/tmp/coupon-service-cache-0"];
  }
  const xdg = process.env.XDG_CACHE_HOME;
  const home = homeFolder();
  return [
    ...(xdg !== undefined && isAbsolute(xdg) ? [join(xdg, "coupon-service")] : []),
    ...(home !== undefined ? [join(home, ".cache", "coupon-service")] : []),
    inTemporary,
  ];
}

/**
 * The folder for cached programs: ours, and writable by nobody else, since what lies in it is executed. One that
 * another user made first under the same name is passed over.
 */
async function cacheFolder(): Promise<string> {
  const problems: string[] = [];
  for (const path of candidates()) {
    try {
      await mkdir(path, { recursive: true, mode: 0o755 });
      const status = await lstat(path);
      if (!status.isDirectory() || status.uid !== process.getuid?.() || (status.mode & writableByOthers) !== 0) {
        throw new Error(`is not a folder that only uid ${process.getuid?.()} can write`);
      }
      await access(path, constants.W_OK);
      const barred = runsAsRoot() ? await barredFolder(path) : undefined;
      if (barred !== undefined) {
        throw new Error(`the account of the servers cannot enter ${barred}`);
      }
      return path;
    } catch (error) {
      problems.push(`${path}: ${(error as Error).message}`);
    }
  }
  throw new Error(`Found no folder to cache programs in.\n${problems.join("\n")}`);
}

/**
 * The cached folder of this name, which `build` fills the first time. It is built under another name and renamed when
 * complete, so no process ever sees half of it; when two build at once, the first to finish wins.
 */
export async function cached(name: string, build: (folder: string) => Promise<void>): Promise<string> {
  const parent = await cacheFolder();
  const folder = join(parent, name);
  if (existsSync(folder)) {
    return folder;
  }
  await removeAbandoned(parent);
  const building = join(parent, `.building-${name}-${randomBytes(6).toString("hex")}`);
  try {
    await mkdir(building);
    await chmod(building, 0o755);
    await build(building);
    await rename(building, folder).catch((error: unknown) => {
      if (!existsSync(folder)) {
        throw error;
      }
    });
  } finally {
    await rm(building, { recursive: true, force: true });
  }
  return folder;
}

async function removeAbandoned(parent: string): Promise<void> {
  for (const name of await readdir(parent)) {
    const path = join(parent, name);
    const status = name.startsWith(".building-") ? await lstat(path).catch(() => undefined) : undefined;
    if (status !== undefined && Date.now() - status.mtimeMs > abandonedAfterMs) {
      await rm(path, { recursive: true, force: true });
    }
  }
}
