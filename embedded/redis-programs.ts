import { constants } from "node:fs";
import { access, mkdir, readdir, readFile, rename, rm } from "node:fs/promises";
import { delimiter, dirname, isAbsolute, join } from "node:path";
import type { Account } from "./account.js";
import { cached } from "./cache-folder.js";
import { runCommand } from "./run-command.js";

const versionTimeoutMs = 10_000;
const downloadTimeoutMs = 60_000;
const updateTimeoutMs = 120_000;
const unpackTimeoutMs = 30_000;

const redisPackage = "redis-tools";
/** What it needs that a small system lacks. Fixed, because it is right on all recent releases and saves a question. */
const usualLibraries = ["libjemalloc2", "liblzf1", "libatomic1"];

export interface RedisProgram {
  readonly program: string;
  readonly env: NodeJS.ProcessEnv;
}

export interface RedisSearch {
  readonly account: Account | undefined;
  readonly signal: AbortSignal;
  progress(text: string): void;
}

const environment: NodeJS.ProcessEnv = { PATH: "/usr/local/bin:/usr/bin:/bin", LC_ALL: "C", TZ: "UTC" };

/** A server that runs on this machine: an installed one, else one from the packages of the system. */
export async function findRedis(search: RedisSearch): Promise<RedisProgram> {
  const folders = (process.env.PATH ?? "").split(delimiter).filter(isAbsolute);
  for (const name of ["redis-server", "valkey-server"]) {
    for (const folder of folders) {
      const candidate = { program: join(folder, name), env: environment };
      if ((await isExecutable(candidate.program)) && (await problemWith(candidate, search)) === undefined) {
        return candidate;
      }
    }
  }
  try {
    return await fromSystemPackages(search);
  } catch (error) {
    const why = (error as Error).message;
    throw new Error(
      "There is no working redis-server or valkey-server on PATH, and none could be had from the packages of this " +
        `system. Install one, or set REDIS_URL.\n${why}`,
    );
  }
}

/** How a shell calls the command line that came with a server; undefined: there is none beside it. */
export async function redisCliOf({ program, env }: RedisProgram): Promise<string | undefined> {
  const folder = dirname(program);
  for (const name of ["redis-cli", "valkey-cli", "usr/bin/redis-cli"]) {
    const path = join(folder, name);
    if (await isExecutable(path)) {
      const { LD_LIBRARY_PATH: libraries } = env;
      return libraries === undefined ? quoted(path) : `LD_LIBRARY_PATH=${quoted(libraries)} ${quoted(path)}`;
    }
  }
  return undefined;
}

function quoted(text: string): string {
  return /^[\w./:@%+-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`;
}

async function isExecutable(path: string): Promise<boolean> {
  return access(path, constants.X_OK).then(
    () => true,
    () => false,
  );
}

/** Why the server does not even tell its version, under the account that it will run as; undefined when it does. */
async function problemWith({ program, env }: RedisProgram, search: RedisSearch): Promise<string | undefined> {
  const { account, signal } = search;
  try {
    await runCommand(program, ["--version"], { timeoutMs: versionTimeoutMs, env, account, signal });
    return undefined;
  } catch (error) {
    signal.throwIfAborted();
    return (error as Error).message;
  }
}

async function fromSystemPackages(search: RedisSearch): Promise<RedisProgram> {
  const release = await readFile("/etc/os-release", "utf8").catch(() => "");
  const field = (name: string): string => new RegExp(`^${name}="?([\\w.-]+)`, "m").exec(release)?.[1] ?? "unknown";
  if (!(await isExecutable("/usr/bin/apt-get")) || !(await isExecutable("/usr/bin/dpkg"))) {
    throw new Error("There is no apt-get here.");
  }
  // A home folder may be shared by machines with different systems, so the name tells which one this is for.
  const name = `redis-${field("ID")}-${field("VERSION_ID")}-${process.arch}`;
  const folder = await cached(name, async (building) => {
    search.progress("downloading Redis from the packages of this system, once");
    await unpackRedis(building, search);
  });
  return programIn(folder, await libraryFolders(folder));
}

/**
 * The server is in redis-tools, not in redis-server, under the name of a checking tool: one program that looks at the
 * name it is called by.
 */
async function unpackRedis(folder: string, search: RedisSearch): Promise<void> {
  const apt = aptIn(join(folder, "apt"), search.signal);
  await apt.fetch([redisPackage, ...usualLibraries], folder);
  await rename(join(folder, "usr", "bin", "redis-check-rdb"), join(folder, "redis-server"));
  let problem = await problemWith(programIn(folder, await libraryFolders(folder)), search);
  if (problem !== undefined) {
    // A very small system lacks more than the usual, so take everything that the package asks for.
    await apt.fetch(await apt.librariesOf(redisPackage), folder);
    problem = await problemWith(programIn(folder, await libraryFolders(folder)), search);
  }
  if (problem !== undefined) {
    throw new Error(problem);
  }
  await rm(join(folder, "apt"), { recursive: true, force: true });
  await rm(join(folder, "usr", "share"), { recursive: true, force: true });
}

function programIn(folder: string, libraries: readonly string[]): RedisProgram {
  return { program: join(folder, "redis-server"), env: { ...environment, LD_LIBRARY_PATH: libraries.join(":") } };
}

/** Debian keeps libraries in a folder named after the machine, which has a name of its own for every architecture. */
async function libraryFolders(folder: string): Promise<string[]> {
  const found: string[] = [];
  for (const parent of [join(folder, "usr", "lib"), join(folder, "lib")]) {
    const entries = await readdir(parent, { withFileTypes: true }).catch(() => []);
    found.push(...entries.filter((entry) => entry.isDirectory()).map((entry) => join(parent, entry.name)));
  }
  return found;
}

interface Apt {
  /** Downloads packages and unpacks them into a folder. Installs nothing. */
  fetch(packages: readonly string[], folder: string): Promise<void>;
  librariesOf(packageName: string): Promise<string[]>;
}

/**
 * apt-get as an ordinary user can use it, and as root without its sandbox account, which could not write to our folder.
 * The package lists of the system may be missing, as in most container images, or too old; then it gets lists of its own.
 */
function aptIn(work: string, signal: AbortSignal): Apt {
  const common = ["-o", "APT::Sandbox::User=root", "-o", "Debug::NoLocking=1", "-o", "Acquire::Retries=1"];
  const ownLists = [
    ...["-o", `Dir::State=${join(work, "state")}`, "-o", `Dir::State::Lists=${join(work, "lists")}`],
    ...["-o", `Dir::Cache=${join(work, "cache")}`],
  ];
  // The rest of the environment stays: it may tell the way through a proxy.
  const env = { ...process.env, LC_ALL: "C", DEBIAN_FRONTEND: "noninteractive" };
  let options = common;

  const download = async (packages: readonly string[]): Promise<string> => {
    const target = join(work, "packages");
    await rm(target, { recursive: true, force: true });
    await mkdir(target, { recursive: true });
    const command = [...options, "download", ...packages];
    await runCommand("/usr/bin/apt-get", command, { timeoutMs: downloadTimeoutMs, env, signal, cwd: target });
    return target;
  };
  const useOwnLists = async (): Promise<void> => {
    for (const folder of ["state", "lists/partial", "cache/archives/partial"]) {
      await mkdir(join(work, folder), { recursive: true });
    }
    options = [...common, ...ownLists];
    await runCommand("/usr/bin/apt-get", [...options, "update"], { timeoutMs: updateTimeoutMs, env, signal });
  };
  return {
    async fetch(packages, folder) {
      const target = await download(packages).catch(async () => {
        signal.throwIfAborted();
        await useOwnLists();
        return download(packages);
      });
      for (const file of await readdir(target)) {
        await runCommand("/usr/bin/dpkg", ["-x", join(target, file), folder], {
          timeoutMs: unpackTimeoutMs,
          env,
          signal,
        });
      }
    },
    async librariesOf(packageName) {
      const command = [...options, "depends", packageName];
      const output = await runCommand("/usr/bin/apt-cache", command, { timeoutMs: unpackTimeoutMs, env, signal });
      const names = [...output.matchAll(/Depends: (lib[\w.+-]+)/g)].map((match) => match[1]!);
      return names.filter((name) => name !== "libc6");
    },
  };
}
