/**
 * npm run test:mutants [-- NAME...]
 *
 * Plants the bugs of test/mutants one after the other into a copy of this folder, and looks whether the tests that should
 * catch each one do. The first line of a patch says what it breaks and, after a bar, which test files must catch it; of
 * files that take long, after a second bar, which of their tests:
 *
 *     # the clock is read before the lock, in issue | test/integration/time-after-locks.test.ts
 *     # a search finds what has ended | test/integration/search.test.ts | a coupon that has ended is not
 *
 * Before that the same tests must pass without any bug. Fails when a bug survives, or when a patch does not apply.
 */
import { spawn, spawnSync } from "node:child_process";
import { cpSync, existsSync, mkdtempSync, readdirSync, readFileSync, realpathSync, rmSync, symlinkSync } from "node:fs";
import { tmpdir } from "node:os";
import { basename, join, relative } from "node:path";
import { root } from "./build.mjs";

const folder = "test/mutants";
/** A test file that takes longer than this hangs. */
const testLimitMs = 120_000;
/** How long an interrupted run of tests may take to stop its servers. */
const stopGraceMs = 10_000;
/** Folders that a copy must not have: they are large, or made anew. */
const leftOut = new Set([".git", "node_modules", ".cache", "data"]);

function readMutant(file) {
  const name = basename(file, ".patch");
  const [first] = readFileSync(join(root, folder, file), "utf8").split("\n", 1);
  const [, what, paths, only = ""] = /^# ([^|]+) \| ([^|]+?)(?: \| ([^|]+))?$/.exec(first) ?? [];
  if (!what) throw new Error(`${folder}/${file}: the first line must be "# what it breaks | test files"`);
  const files = paths.split(" ");
  const missing = files.filter((path) => !existsSync(join(root, path)));
  if (missing.length > 0) throw new Error(`${folder}/${file}: there is no ${missing.join(" and no ")}`);
  return { name, what, file, files, only };
}

function chosen(names) {
  const all = readdirSync(join(root, folder))
    .filter((file) => file.endsWith(".patch"))
    .sort()
    .map(readMutant);
  const unknown = names.filter((name) => !all.some((one) => one.name === name));
  if (unknown.length > 0) throw new Error(`there is no ${folder}/${unknown[0]}.patch`);
  return names.length === 0 ? all : all.filter(({ name }) => names.includes(name));
}

let copy;
let child;
let interrupted;

function removeCopy() {
  // What is linked there stays: a link is removed, not what it leads to.
  if (copy) rmSync(copy, { recursive: true, force: true, maxRetries: 3 });
}

function makeCopy() {
  copy = mkdtempSync(join(realpathSync(tmpdir()), "coupon-mutants-"));
  for (const entry of readdirSync(root)) {
    if (!leftOut.has(entry))
      cpSync(join(root, entry), join(copy, entry), { recursive: true, preserveTimestamps: true });
  }
  symlinkSync(realpathSync(join(root, "node_modules")), join(copy, "node_modules"));
}

function patch(file, ...options) {
  // Inside another repository, git would look for the files from its root, and skip in silence what it does not find.
  const env = { ...process.env, GIT_CEILING_DIRECTORIES: join(copy, "..") };
  const done = spawnSync("git", ["apply", ...options, join(root, folder, file)], { cwd: copy, encoding: "utf8", env });
  return done.status === 0 ? undefined : `${done.stderr ?? ""}${done.error ?? ""}`.trim();
}

/** In a process group of its own, which is stopped as a whole. */
function run(args, limitMs = testLimitMs) {
  return new Promise((resolve, reject) => {
    if (interrupted) throw new Error(`stopped by ${interrupted}`);
    let output = "";
    child = spawn(process.execPath, args, { cwd: copy, stdio: ["ignore", "pipe", "pipe"], detached: true });
    child.stdout.on("data", (data) => (output += data));
    child.stderr.on("data", (data) => (output += data));
    const timer = setTimeout(() => kill("SIGKILL"), limitMs);
    child.once("error", reject);
    child.once("close", (code) => {
      clearTimeout(timer);
      child = undefined;
      if (interrupted) reject(new Error(`stopped by ${interrupted}`));
      else resolve({ code, output });
    });
  });
}

function kill(signal) {
  try {
    if (child) process.kill(-child.pid, signal);
  } catch {
    // It has ended by itself.
  }
}

const needsBuild = (path) =>
  /support\/replica|dist\/src|test\/(e2e|openapi)\//.test(path + readFileSync(join(root, path), "utf8"));

/** What the tests say: "passed", "failed" with the first test that did, or "broken" when none of them ran; and which files have not passed. */
async function runTests(files, only, whenOneFails = ["--bail=1"]) {
  if (files.some(needsBuild)) {
    const built = await run(["scripts/build.mjs"]);
    if (built.code !== 0) return { said: "broken", output: built.output };
  }
  const report = join(copy, "report.json");
  rmSync(report, { force: true });
  const options = [...whenOneFails, "--reporter=json", `--outputFile=${report}`, ...(only ? ["-t", only] : [])];
  const limitMs = testLimitMs * files.length;
  const { code, output } = await run(["node_modules/vitest/vitest.mjs", "run", ...options, ...files], limitMs);
  const { testResults = [] } = existsSync(report) ? JSON.parse(readFileSync(report, "utf8")) : {};
  const tests = testResults.flatMap(({ assertionResults }) => assertionResults);
  const failed = tests.find(({ status }) => status === "failed");
  if (!failed && code === 0 && tests.some(({ status }) => status === "passed")) return { said: "passed" };
  const failedFiles = testResults.filter(({ status }) => status !== "passed").map(({ name }) => relative(copy, name));
  return { said: failed ? "failed" : "broken", test: failed?.fullName, output, failedFiles };
}

const say = (text) => process.stdout.write(`${text}\n`);
const indented = (text = "") => text.trimEnd().split("\n").slice(-20).join("\n  ");

async function tryMutant({ name, what, file, files, only }) {
  const refused = patch(file);
  if (refused) {
    say(`DOES NOT APPLY ${name}: ${what}\n  ${refused}`);
    return false;
  }
  const startedAt = performance.now();
  const { said, test, output } = await runTests(files, only);
  const seconds = ((performance.now() - startedAt) / 1_000).toFixed(1);
  patch(file, "--reverse");
  if (said === "failed") {
    say(`caught in ${seconds} s  ${name}: ${what}\n  by: ${test}`);
    return true;
  }
  say(said === "passed" ? `SURVIVED ${name}: ${what}` : `NOT TRIED ${name}: no test ran\n  ${indented(output)}`);
  return false;
}

/** Whole files in one run. Those that fail have another try, alone: on a busy machine a test may fail for that, and a whole run takes long. */
async function runWithoutBugs(mutants) {
  const runs = new Map();
  for (const { files, only } of mutants) {
    const name = only && `${files} ${only}`;
    runs.set(name, { files: new Set([...(runs.get(name)?.files ?? []), ...files]), only });
  }
  for (const { files, only } of runs.values()) {
    const { said: saidFirst, failedFiles = [] } = await runTests([...files], only, []);
    if (saidFirst === "passed") continue;
    for (const file of failedFiles) say(`has failed without a bug, and is tried again: ${file}`);
    const again = failedFiles.length > 0 ? failedFiles : [...files];
    const { said, test = "no test ran", output } = await runTests(again, only);
    if (said !== "passed") throw new Error(`without any bug the tests must pass: ${test}\n  ${indented(output)}`);
  }
  say("without a bug all of these tests pass");
}

async function main() {
  const mutants = chosen(process.argv.slice(2));
  makeCopy();
  await runWithoutBugs(mutants);
  let missed = 0;
  for (const mutant of mutants) if (!(await tryMutant(mutant))) missed += 1;
  say(missed === 0 ? `all ${mutants.length} caught` : `${missed} of ${mutants.length} not caught`);
  process.exitCode = missed === 0 ? 0 : 1;
}

for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"]) {
  process.once(signal, () => {
    interrupted = signal;
    kill("SIGTERM");
    setTimeout(() => kill("SIGKILL"), stopGraceMs).unref();
  });
}
try {
  await main();
} catch (error) {
  process.stderr.write(`${error.message}\n`);
  process.exitCode = 1;
} finally {
  removeCopy();
}
