/**
 * npm run test:clients [-- go python java typescript]
 *
 * Does what another team would do: for each language (or those that are named) it copies examples/ into an empty folder, puts beside it
 * the coupon.binpb that a running service hands out, generates, compiles, and runs the program against that service. The service
 * asks for a key, and has servers of its own.
 *
 * A language is skipped when this machine has no tools for it, or cannot fetch its packages. Fails when a program fails, or when all were
 * skipped.
 */
import { execFileSync, spawn } from "node:child_process";
import { cpSync, mkdirSync, mkdtempSync, realpathSync, writeFileSync } from "node:fs";
import { rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { stripVTControlCharacters } from "node:util";
import { startEmbedded } from "../dist/embedded/embedded.js";
import { root } from "./build.mjs";
import { startReplica } from "./upgrade/replica.mjs";

/** Packages are fetched and compiled within this, on a slow machine with nothing in its caches. */
const stepLimitMs = 900_000;
const maxShownLines = 30;
const scopes = "catalog.write,issue,use";
/** What examples/.gitignore names: made by somebody who has tried them by hand. */
const leftOut = new Set(["coupon.binpb", "gen", "target", ".venv", "__pycache__", "build", "node_modules"]);

const buf = join(root, "node_modules/.bin/buf");
const python = ".venv/bin/python";

/**
 * `tools` must answer, or there is no such language here. `packages` are the steps that only fetch: when one fails, the language is skipped.
 * The `steps` must pass; where one of them fetches as well, `unfetched` is what it says when that fails.
 */
const languages = {
  go: {
    tools: [["go", "version"]],
    packages: [["go", "mod", "download"]],
    steps: [
      [buf, "generate", "coupon.binpb"],
      ["go", "vet", "./..."],
      ["go", "run", "./grpc"],
      ["go", "run", "./connect"],
    ],
  },
  python: {
    tools: [["python3", "-m", "venv", "--help"]],
    packages: [
      ["python3", "-m", "venv", ".venv"],
      [python, "-m", "pip", "install", "-q", "--disable-pip-version-check", "-r", "requirements.txt"],
    ],
    steps: [
      [python, "generate.py"],
      [python, "main.py"],
    ],
  },
  java: {
    tools: [
      ["javac", "-version"],
      ["mvn", "-v"],
    ],
    packages: [],
    steps: [["mvn", "-B", "-q", "compile", "exec:java"]],
    unfetched:
      /Failed to resolve artifact|Could not (resolve dependencies|transfer|find artifact)|could not be resolved/,
  },
  typescript: {
    tools: [["npm", "--version"]],
    packages: [["npm", "install", "--no-audit", "--no-fund", "--loglevel=error"]],
    steps: [["npm", "start", "--silent"]],
    prepare: packClient,
  },
};

let child;
let interrupted;

function kill(signal) {
  try {
    if (child) process.kill(-child.pid, signal);
  } catch {
    // It has ended by itself.
  }
}

/** Runs a command in a process group of its own, which is ended as a whole. */
function run([command, ...args], cwd, env) {
  return new Promise((resolve, reject) => {
    if (interrupted) throw new Error(`stopped by ${interrupted}`);
    let output = "";
    child = spawn(command, args, {
      cwd,
      env: { ...process.env, ...env },
      stdio: ["ignore", "pipe", "pipe"],
      detached: true,
    });
    child.stdout.on("data", (data) => (output += data));
    child.stderr.on("data", (data) => (output += data));
    const timer = setTimeout(() => kill("SIGKILL"), stepLimitMs);
    const end = (code) => {
      clearTimeout(timer);
      child = undefined;
      if (interrupted) reject(new Error(`stopped by ${interrupted}`));
      else resolve({ code, output });
    };
    child.once("error", (error) => {
      output += error.message;
      end(-1);
    });
    child.once("close", end);
  });
}

/** The client as somebody would install it. */
function packClient(folder) {
  const packed = join(folder, "packed");
  mkdirSync(packed);
  const args = ["run", "--silent", "pack", "-w", "@coupon-service/client", "--", "--pack-destination", packed];
  const name = execFileSync("npm", args, { cwd: root, encoding: "utf8" }).trim().split("\n").at(-1);
  cpSync(join(packed, name), join(folder, "coupon-service-client.tgz"));
}

/** Answers "passed", "skipped" or "failed", why, and what the programs wrote. */
async function tryLanguage({ tools, packages, steps, unfetched, prepare = () => {} }, folder, env) {
  const shown = ([command, ...args]) => [basename(command), ...args].join(" ");
  for (const tool of tools) {
    if ((await run(tool, folder, env)).code !== 0) return { said: "skipped", why: `no ${tool[0]} here`, output: "" };
  }
  prepare(folder);
  for (const step of packages) {
    const { code, output } = await run(step, folder, env);
    if (code !== 0) return { said: "skipped", why: `packages cannot be fetched: ${shown(step)}`, output };
  }
  let written = "";
  for (const step of steps) {
    const { code, output } = await run(step, folder, env);
    if (code !== 0) {
      if (unfetched?.test(output)) return { said: "skipped", why: "packages cannot be fetched", output };
      return { said: "failed", why: shown(step), output };
    }
    written += output;
  }
  return { said: "passed", why: "", output: written };
}

/** Starts the service, and makes a key for the examples. */
async function startService(cleanups) {
  const servers = await startEmbedded();
  cleanups.push(() => servers.stop());
  if (!servers.redisUrl) throw new Error(`a real Redis is needed: ${servers.redisUnavailable}`);
  const settings = { DATABASE_URL: servers.databaseUrl, REDIS_URL: servers.redisUrl, AUTH: "keys" };
  const replica = await startReplica(root, settings);
  cleanups.push(() => replica.stop());
  const command = [join(root, "dist/src/main.js"), "keys", "create", "--caller", "examples", "--scopes", scopes];
  const key = execFileSync(process.execPath, command, {
    env: { PATH: process.env.PATH, ...settings },
    encoding: "utf8",
    stdio: ["ignore", "pipe", "ignore"],
  });
  return {
    COUPON_TARGET: replica.target,
    COUPON_URL: `http://127.0.0.1:${replica.httpPort}`,
    COUPON_KEY: key.trim(),
  };
}

const say = (text) => process.stdout.write(`${text}\n`);

async function main() {
  const names = process.argv.slice(2);
  const unknown = names.find((name) => !Object.hasOwn(languages, name));
  if (unknown !== undefined)
    throw new Error(`no language is ${unknown}; there are ${Object.keys(languages).join(", ")}`);
  const folder = mkdtempSync(join(realpathSync(tmpdir()), "coupon-clients-"));
  const cleanups = [() => rm(folder, { recursive: true, force: true, maxRetries: 3 })];
  try {
    const env = await startService(cleanups);
    const answer = await fetch(`${env.COUPON_URL}/coupon.binpb`);
    if (!answer.ok) throw new Error(`GET /coupon.binpb was answered ${answer.status}`);
    const contract = Buffer.from(await answer.arrayBuffer());
    const counts = { passed: 0, skipped: 0, failed: 0 };
    for (const name of names.length === 0 ? Object.keys(languages) : names) {
      const own = join(folder, name);
      const filter = (path) => !leftOut.has(basename(path)) && !path.endsWith(".tgz");
      cpSync(join(root, "examples", name), own, { recursive: true, filter });
      writeFileSync(join(own, "coupon.binpb"), contract);
      const startedAt = performance.now();
      const { said, why, output } = await tryLanguage(languages[name], own, env);
      const seconds = ((performance.now() - startedAt) / 1_000).toFixed(1);
      counts[said] += 1;
      say(`${said} ${name} in ${seconds} s${why && `: ${why}`}`);
      const lines = stripVTControlCharacters(output).split("\n");
      for (const line of lines.filter((one) => one.trim() !== "").slice(-maxShownLines)) say(`  ${line}`);
    }
    say(`${counts.passed} passed, ${counts.failed} failed, ${counts.skipped} skipped`);
    process.exitCode = counts.failed === 0 && counts.passed > 0 ? 0 : 1;
  } finally {
    for (const cleanup of cleanups.reverse()) {
      await cleanup().catch((error) => process.stderr.write(`${error.message}\n`));
    }
  }
}

for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"]) {
  process.once(signal, () => {
    interrupted = signal;
    kill("SIGKILL");
  });
}
try {
  await main();
} catch (error) {
  process.stderr.write(`${error.message}\n`);
  process.exitCode = 1;
}
