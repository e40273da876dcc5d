/**
 * Compiles the client into dist/. The generated code is the service's own (`gen` in the root), so that there is one; it is
 * put into dist/gen, without what only the service needs of it: the rules of buf.validate, and our own that extend them.
 */
import { spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import { copyFile, cp, mkdir, readdir, readFile, rename, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { root, withLock } from "../../../scripts/build.mjs";

const own = fileURLToPath(new URL("..", import.meta.url));
const compiled = join(root, ".cache", "client");
const dist = join(own, "dist");
const next = `${dist}.new`;

/** Runs a change over each file of a folder whose name fits. */
async function rewrite(folder, names, change) {
  for (const entry of await readdir(folder, { withFileTypes: true, recursive: true })) {
    if (!entry.isFile() || !names.test(entry.name)) continue;
    const path = join(entry.parentPath, entry.name);
    const text = await readFile(path, "utf8");
    await writeFile(path, change(text, path));
  }
}

/** A descriptor works without the files that say what its options mean: they are kept as bytes that nobody reads. */
function withoutRules(text, path) {
  const lines = /^import \{ (\w+) \} from "(?:[^"]*\/buf\/validate\/validate_pb|\.\/rules_pb)\.js";$/gm;
  const names = [...text.matchAll(lines)].map(([, name]) => name);
  const done = names.reduce(
    (rest, name) => rest.replace(new RegExp(`\\b${name}\\b(, )?`, "g"), ""),
    text.replace(lines, ""),
  );
  if (/validate_pb|protovalidate|rules_pb/.test(done)) throw new Error(`${path} still needs buf.validate`);
  return done;
}

async function build() {
  await rm(compiled, { recursive: true, force: true });
  const args = [join(root, "node_modules/typescript/bin/tsc"), "-p", own, "--noEmitOnError"];
  if (spawnSync(process.execPath, args, { stdio: ["ignore", 2, 2] }).status !== 0) {
    throw new Error("The build of the client failed. dist/ is as it was.");
  }
  await rm(next, { recursive: true, force: true });
  await mkdir(next, { recursive: true });
  await cp(join(compiled, "clients/typescript/src"), next, { recursive: true });
  await cp(join(compiled, "gen"), join(next, "gen"), { recursive: true });
  const ours = join(next, "gen/coupon/v1");
  for (const name of await readdir(ours)) if (name.startsWith("rules_pb.")) await rm(join(ours, name));
  await rewrite(join(next, "gen"), /\.(js|d\.ts)$/, withoutRules);
  await rewrite(next, /^contract\.(js|d\.ts)$/, (text) => text.replaceAll('"../../../gen/', '"./gen/'));
  // The contract for programs that read it when they run, where the service was built.
  const descriptors = join(root, "dist/coupon.binpb");
  if (existsSync(descriptors)) await copyFile(descriptors, join(next, "coupon.binpb"));
  await rm(dist, { recursive: true, force: true });
  await rename(next, dist);
}

try {
  await withLock("client", build);
} catch (error) {
  process.stderr.write(`${error.message}\n`);
  process.exitCode = 1;
}
