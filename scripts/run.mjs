/**
 * node scripts/run.mjs [options for node] <file, relative to the root> [arguments]
 *
 * Installs what is missing, builds what is old, then runs the file: so that every npm command works on a fresh clone.
 * Whatever this script itself has to say goes to standard error.
 */
import { spawn } from "node:child_process";
import { readFile } from "node:fs/promises";
import { constants } from "node:os";
import { join } from "node:path";
import { build, root, withLock } from "./build.mjs";

const forwarded = ["SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT"];
/** npm passes a Ctrl-C on to us although the terminal has sent it to us too; the program shall see it once. */
const repeatedSignalMs = 500;
const parentPollMs = 1_000;
const orphanGraceMs = 15_000;
/** Read before anything is installed or built, which takes long enough for npm to be killed meanwhile. */
const parent = process.ppid;

/**
 * Loaded into the program that is run. If this script is killed outright, it can forward nothing more; so the program
 * looks for itself whether its parent is still the same one, stops as if by SIGTERM when not, and is killed if that
 * does not end it. Neither timer keeps it alive.
 */
const endWithParent = `
const parent = process.ppid;
const timer = setInterval(() => {
  if (process.ppid === parent) return;
  clearInterval(timer);
  setTimeout(() => process.kill(process.pid, "SIGKILL"), ${orphanGraceMs}).unref();
  process.kill(process.pid, "SIGTERM");
}, ${parentPollMs});
timer.unref();`;

async function readJson(path) {
  return JSON.parse(await readFile(path, "utf8").catch(() => "{}"));
}

/**
 * Whether node_modules holds what package-lock.json asks for, told from npm's own list of what it installed. The
 * times of the two files would tell it wrongly after a checkout or a copy.
 */
async function isInstalled() {
  const { packages: wanted = {} } = await readJson(join(root, "package-lock.json"));
  const { packages: installed } = await readJson(join(root, "node_modules", ".package-lock.json"));
  return (
    installed !== undefined &&
    Object.entries(wanted).every(([path, entry]) => {
      const found = installed[path];
      // Packages for other systems are in the lock file and not on the disk.
      return path === "" || (found === undefined ? entry.optional === true : found.version === entry.version);
    })
  );
}

async function install() {
  if (await isInstalled()) {
    return;
  }
  await withLock("install", async () => {
    if (await isInstalled()) {
      return;
    }
    process.stderr.write("Installing the packages of package-lock.json (npm ci) ...\n");
    const code = await npm("ci");
    if (code !== 0) {
      throw new Error(`The packages could not be installed: npm ci ended with ${code}.`);
    }
  });
}

async function npm(...args) {
  const cli = process.env.npm_execpath;
  const [command, first] = cli?.endsWith(".js") ? [process.execPath, [cli]] : ["npm", []];
  // Its standard output too goes to our standard error. The compiler is a development dependency.
  const child = spawn(command, [...first, ...args, "--include=dev"], { cwd: root, stdio: ["ignore", 2, 2] });
  return (await endOf(child)).code;
}

function endOf(child) {
  return new Promise((resolve, reject) => {
    child.once("error", reject);
    child.once("exit", (code, signal) => resolve({ code, signal }));
  });
}

/**
 * In a process group of its own: a terminal sends Ctrl-C to its whole foreground group, and the program would get it
 * twice, from the terminal and from here, where the second one commonly means "at once, without cleaning up".
 */
async function run(nodeOptions, file, args) {
  const loader = `--import=data:text/javascript,${encodeURIComponent(endWithParent)}`;
  const child = spawn(process.execPath, [...nodeOptions, loader, file, ...args], { stdio: "inherit", detached: true });
  const last = new Map();
  for (const signal of forwarded) {
    process.on(signal, () => {
      const now = Date.now();
      if (now - (last.get(signal) ?? 0) > repeatedSignalMs) {
        child.kill(signal);
      }
      last.set(signal, now);
    });
  }
  // Whoever is killed outright passes nothing on. (npm's scripts begin with `exec`: a shell in between would live on.)
  const watch = setInterval(() => {
    if (process.ppid === parent) return;
    clearInterval(watch);
    child.kill("SIGTERM");
  }, parentPollMs);
  const { code, signal } = await endOf(child);
  clearInterval(watch);
  if (signal !== null) {
    // Ends as the program did, so that a shell sees the same. A signal that leaves us alive becomes its usual code.
    for (const name of forwarded) {
      process.removeAllListeners(name);
    }
    process.exitCode = 128 + constants.signals[signal];
    process.kill(process.pid, signal);
  } else {
    process.exitCode = code;
  }
}

const given = process.argv.slice(2);
const nodeOptions = given.slice(
  0,
  Math.max(
    0,
    given.findIndex((one) => !one.startsWith("--")),
  ),
);
const [file, ...args] = given.slice(nodeOptions.length);
try {
  if (file === undefined) {
    throw new Error("Usage: node scripts/run.mjs [options for node] <file, relative to the root> [arguments]");
  }
  await install();
  await build();
  await run(nodeOptions, join(root, file), args);
} catch (error) {
  process.stderr.write(`${error.message}\n`);
  process.exitCode = 1;
}
