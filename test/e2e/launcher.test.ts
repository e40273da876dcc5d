import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { copyFile, mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { beforeEach, expect, onTestFinished, test } from "vitest";
import { packageRoot } from "../../src/platform/package-root.js";
import { until } from "../support/until.js";

/** `npm start`, with the real launcher, of a program and a build that say what becomes of them by files. */

const exitCode = 3;
const program = `
import { writeFileSync } from "node:fs";
const kept = setInterval(() => {}, 1_000);
process.once("SIGTERM", () => {
  writeFileSync("stopped", "");
  clearInterval(kept);
  process.exitCode = ${exitCode};
});
writeFileSync("started", String(process.pid));
`;
const builder = `
import { existsSync, writeFileSync } from "node:fs";
export const root = process.cwd();
export const withLock = (name, work) => work();
export async function build() {
  writeFileSync("building", "");
  await new Promise((built) => {
    const look = setInterval(() => {
      if (!existsSync("may-be-built")) return;
      clearInterval(look);
      built();
    }, 20);
  });
}
`;

let folder: string;
let npm: ChildProcess;
/** Whether npm and all that it has started have ended: each of them has the same standard output. */
let haveEnded: boolean;
const at = (file: string) => join(folder, file);
const there = (file: string) => until(`there is a file ${file}`, () => existsSync(at(file)));

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "coupon-launcher-"));
  onTestFinished(() => rm(folder, { recursive: true, force: true }));
  for (const one of ["scripts", "dist/src", "node_modules"]) await mkdir(at(one), { recursive: true });
  const { scripts } = JSON.parse(await readFile(join(packageRoot(), "package.json"), "utf8"));
  await writeFile(at("package.json"), JSON.stringify({ type: "module", scripts: { start: scripts.start } }));
  for (const list of ["package-lock.json", "node_modules/.package-lock.json"]) await writeFile(at(list), "{}");
  await copyFile(join(packageRoot(), "scripts/run.mjs"), at("scripts/run.mjs"));
  await writeFile(at("scripts/build.mjs"), builder);
  await writeFile(at("dist/src/main.js"), program);
  npm = spawn("npm", ["start", "--silent"], { cwd: folder, stdio: ["ignore", "pipe", "ignore"] });
  haveEnded = false;
  npm.stdout?.resume().once("end", () => {
    haveEnded = true;
  });
  onTestFinished(async () => {
    npm.kill("SIGKILL");
    const pid = Number(await readFile(at("started"), "utf8").catch(() => ""));
    if (pid > 0 && !haveEnded) process.kill(pid, "SIGKILL");
  });
  await there("building");
});

test("when npm is killed outright, what it has started stops in order", async () => {
  await writeFile(at("may-be-built"), "");
  await there("started");
  npm.kill("SIGKILL");
  await until("all have ended", () => haveEnded);
  expect(existsSync(at("stopped"))).toBe(true);
});

test("when npm is killed while all is built, what is started then is told to stop", async () => {
  npm.kill("SIGKILL");
  await once(npm, "exit");
  await writeFile(at("may-be-built"), "");
  await until("all have ended", () => haveEnded);
});

test("npm that is told to stop ends when the program has ended, and as it did", async () => {
  await writeFile(at("may-be-built"), "");
  await there("started");
  const exited = once(npm, "exit");
  npm.kill("SIGTERM");
  expect(await exited).toEqual([exitCode, null]);
  expect(existsSync(at("stopped"))).toBe(true);
});
