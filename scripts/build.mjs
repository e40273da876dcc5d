/**
 * Compiles the TypeScript into dist/, copies what is no TypeScript (SQL, Lua, pages) beside it, and writes the contract and its OpenAPI document
 * there. Does nothing when dist/ is up to date.
 * Two of these at once are fine: the second waits for the first, then finds nothing to do.
 */
import { spawn } from "node:child_process";
import { createHash, randomBytes } from "node:crypto";
import { readFileSync, realpathSync } from "node:fs";
import { copyFile, mkdir, readdir, readFile, rename, rm, stat, writeFile } from "node:fs/promises";
import { dirname, extname, join, relative } from "node:path";
import { setTimeout as pause } from "node:timers/promises";
import { fileURLToPath } from "node:url";

export const root = dirname(dirname(fileURLToPath(import.meta.url)));
const dist = join(root, "dist");
const stampFile = join(dist, ".build-stamp");
const compiler = join(root, "node_modules", "typescript", "bin", "tsc");
/** What is made of the proto files. */
const contractFile = join(dist, "coupon.binpb");
const openApiFile = join(dist, "openapi.json");
const sourceFolders = ["src", "embedded", "gen", "bench", "demo", "console", "scripts/openapi"];
const watchedFolders = [...sourceFolders, "proto"];
const projects = ["tsconfig.build.json", "tsconfig.console.json"];
const configFiles = [
  ...["tsconfig.json", ...projects, "package.json", "buf.yaml"],
  ...["scripts/build.mjs", "scripts/contract.mjs", "scripts/third-party-protos.mjs"],
];
const copiedExtensions = [".sql", ".lua", ".html", ".css", ".svg", ".js"];
/** Of packages, what a page needs as it is. */
const copiedFromPackages = {
  "console/uplot.js": "uplot/dist/uPlot.iife.min.js",
  "console/uplot.css": "uplot/dist/uPlot.min.css",
};
const outputExtensions = [".map", ...copiedExtensions];
const fromPackages = new Map(
  Object.entries(copiedFromPackages).map(([target, source]) => [
    join(dist, target),
    join(root, "node_modules", source),
  ]),
);
const lockTimeoutMs = 600_000;
const lockPauseMs = 50;

/** Brings dist/ up to date; rejects when the sources do not compile, and then leaves dist/ as it was. */
export async function build() {
  if (await isCurrent(await inputs())) {
    return;
  }
  await withLock("build", async () => {
    // Taken before compiling: a file that changes meanwhile makes the stamp wrong, and the next build repeats the work.
    const before = await inputs();
    if (await isCurrent(before)) {
      return;
    }
    await rm(stampFile, { force: true });
    for (const project of projects) {
      await run([compiler, "-p", join(root, project), "--noEmitOnError"], "the compiler", " dist/ is as it was.");
    }
    await copyAndPrune(before.files);
    // In processes of their own: they need packages, which need not be installed when this file is loaded.
    await run([join(root, "scripts/contract.mjs")], "scripts/contract.mjs");
    await run([join(dist, "scripts/openapi/write.js"), contractFile, openApiFile], "the OpenAPI document");
    await writeFile(`${stampFile}.new`, before.fingerprint);
    await rename(`${stampFile}.new`, stampFile);
  });
}

/** The sources, and a fingerprint of their names, sizes and times. Times alone would miss a file that was deleted. */
async function inputs() {
  const files = (await Promise.all(watchedFolders.map((folder) => filesBelow(join(root, folder))))).flat().sort();
  const watched = [...files, ...configFiles.map((name) => join(root, name))];
  const states = await Promise.all(
    watched.map(async (path) => {
      const status = await stat(path).catch(() => undefined);
      return `${relative(root, path)} ${status?.size} ${status?.mtimeMs}`;
    }),
  );
  return { files, fingerprint: createHash("sha256").update(states.join("\n")).digest("hex") };
}

async function isCurrent({ files, fingerprint }) {
  if ((await readFile(stampFile, "utf8").catch(() => "")) !== fingerprint) {
    return false;
  }
  const present = await Promise.all(
    [contractFile, openApiFile, ...files.flatMap(outputsOf), ...fromPackages.keys()].map((path) =>
      stat(path).then(
        () => true,
        () => false,
      ),
    ),
  );
  return present.every(Boolean);
}

/** What dist/ holds because of one source file. */
function outputsOf(source) {
  const target = join(dist, relative(root, source));
  if (copiedExtensions.includes(extname(source))) {
    return /^(src|console)\b/.test(relative(root, source)) ? [target] : [];
  }
  if (!source.endsWith(".ts") || source.endsWith(".d.ts")) {
    return [];
  }
  const script = target.replace(/\.ts$/, ".js");
  return [script, `${script}.map`];
}

async function run(args, what, besides = "") {
  // Its messages go to standard error: the standard output belongs to the program that is built and then run.
  const child = spawn(process.execPath, args, { cwd: root, stdio: ["ignore", 2, 2] });
  const code = await new Promise((resolve, reject) => {
    child.once("error", reject);
    child.once("exit", resolve);
  });
  if (code !== 0) {
    throw new Error(`The build failed: ${what} ended with ${code}.${besides}`);
  }
}

/** Copies what the compiler does not know, and removes what sources that are gone left in dist/. */
async function copyAndPrune(files) {
  const copied = files.filter((path) => copiedExtensions.includes(extname(path)));
  const copies = [...copied.flatMap((source) => outputsOf(source).map((target) => [target, source])), ...fromPackages];
  for (const [target, source] of copies) {
    await mkdir(dirname(target), { recursive: true });
    // Renamed into place, so that a program which is running reads the former file or the new one.
    await copyFile(source, `${target}.new`);
    await rename(`${target}.new`, target);
  }
  const wanted = new Set([...files.flatMap(outputsOf), ...fromPackages.keys()]);
  for (const folder of sourceFolders) {
    for (const path of await filesBelow(join(dist, folder))) {
      if (!wanted.has(path) && outputExtensions.includes(extname(path))) {
        await rm(path, { force: true });
      }
    }
  }
}

async function filesBelow(folder) {
  const entries = await readdir(folder, { withFileTypes: true }).catch(() => []);
  const nested = entries.map((entry) => {
    const path = join(folder, entry.name);
    return entry.isDirectory() ? filesBelow(path) : [path];
  });
  return (await Promise.all(nested)).flat();
}

/**
 * Runs `action` while no other process of this folder runs one under the same name.
 *
 * Each contender puts a file of its own beside those of the others, then looks who else is there, and steps back if
 * anybody is. One shared file would not do: taking over the one of a killed process is a race between those who find it.
 */
export async function withLock(name, action) {
  const folder = join(root, ".cache", "locks");
  const identity = identityOf(process.pid);
  const own = `${name}.${process.pid}.${identity}.${randomBytes(3).toString("hex")}`;
  const deadline = Date.now() + lockTimeoutMs;
  const holder = async () => {
    for (const entry of await readdir(folder)) {
      const [entryName, pid, entryIdentity] = entry.split(".");
      if (entryName !== name || entry === own) {
        continue;
      }
      if (identityOf(Number(pid)) === entryIdentity) {
        return pid;
      }
      await rm(join(folder, entry), { force: true });
    }
    return undefined;
  };
  await mkdir(folder, { recursive: true });
  for (;;) {
    // The first look spares those who wait the making and removing of a file.
    let other = await holder();
    if (other === undefined) {
      await writeFile(join(folder, own), "");
      other = await holder();
      if (other === undefined) {
        break;
      }
      await rm(join(folder, own), { force: true });
    }
    if (Date.now() > deadline) {
      throw new Error(`Waited ${lockTimeoutMs / 1000} s for process ${other} to finish its ${name}.`);
    }
    await pause(lockPauseMs * (0.5 + Math.random()));
  }
  try {
    return await action();
  } finally {
    await rm(join(folder, own), { force: true });
  }
}

/** Tells a living process from a later one with the same number, where the system tells when it was started. */
function identityOf(pid) {
  try {
    if (process.platform === "linux") {
      const status = readFileSync(`/proc/${pid}/stat`, "utf8");
      const fields = status.slice(status.lastIndexOf(")") + 2).split(" ");
      // A zombie is dead, and only its parent has not noticed.
      return fields[0] === "Z" ? undefined : fields[19];
    }
    process.kill(pid, 0);
    return "alive";
  } catch (error) {
    return error.code === "EPERM" ? "alive" : undefined;
  }
}

if (process.argv[1] !== undefined && realpathSync(process.argv[1]) === fileURLToPath(import.meta.url)) {
  try {
    await build();
  } catch (error) {
    console.error(error.message);
    process.exitCode = 1;
  }
}
