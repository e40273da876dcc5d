import { spawnSync } from "node:child_process";
import { mkdirSync, readFileSync, symlinkSync } from "node:fs";
import { join } from "node:path";
import { root } from "../build.mjs";

/** The commit of version 0.1.0, from before releases had tags. */
const firstRelease = "1fce698c078c59c576b1b88365708f324cb3e2ed";
const maxArchiveBytes = 256 * 1024 * 1024;

function run(command, args, options = {}) {
  const done = spawnSync(command, args, { cwd: root, maxBuffer: maxArchiveBytes, ...options });
  if (done.status === 0) return done.stdout;
  throw new Error(`${command} ${args.join(" ")} failed: ${done.error?.message ?? done.stderr}`);
}

/** The newest tag of a version before this one. */
export function previousRelease() {
  const found = spawnSync("git", ["describe", "--tags", "--abbrev=0", "--match", "v[0-9]*", "HEAD^"], { cwd: root });
  return found.status === 0 ? String(found.stdout).trim() : firstRelease;
}

/** Puts a commit into `folder`, with its packages, and builds it. */
export function buildRelease(commit, folder) {
  mkdirSync(folder, { recursive: true });
  run("tar", ["-x", "-C", folder], { input: run("git", ["archive", commit]) });
  if (hasAllPackages(folder)) symlinkSync(join(root, "node_modules"), join(folder, "node_modules"));
  else run("npm", ["ci", "--include=dev"], { cwd: folder });
  run(process.execPath, ["scripts/build.mjs"], { cwd: folder });
}

/** Whether our packages are those that it asks for; more of them do no harm. */
function hasAllPackages(folder) {
  const packagesOf = (path) => JSON.parse(readFileSync(path, "utf8")).packages;
  const installed = packagesOf(join(root, "node_modules", ".package-lock.json"));
  return Object.entries(packagesOf(join(folder, "package-lock.json"))).every(
    ([path, { optional, version }]) => path === "" || (installed[path]?.version ?? (optional && version)) === version,
  );
}
