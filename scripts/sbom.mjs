/**
 * npm run sbom -- PATH
 *
 * Writes what the image installs as a CycloneDX document: the packages of the lock file that the service needs to run.
 *
 * `npm sbom` is asked of a copy of package.json and the lock file without what is for development, and not with --omit=dev: that
 * leaves out what is needed for both (protobufjs and @bufbuild/protobuf, for two).
 */
import { spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { root } from "./build.mjs";

/** Not installed by `npm ci --omit=dev --omit=optional --workspaces=false`. */
const leftOut = ["devDependencies", "optionalDependencies", "workspaces"];

function withoutDevelopment(name) {
  const file = JSON.parse(readFileSync(join(root, name), "utf8"));
  const packages = Object.entries(file.packages ?? {}).filter(([path, { dev, optional, devOptional, link }]) => {
    return path === "" || (path.startsWith("node_modules/") && !dev && !optional && !devOptional && !link);
  });
  if (file.packages) file.packages = Object.fromEntries(packages);
  for (const pack of [file, file.packages?.[""] ?? {}]) for (const kind of leftOut) delete pack[kind];
  return file;
}

/** What the client of the workspace needs is in the lock file, too, and nothing in it tells whose it is. */
function onlyReached(document) {
  const needs = new Map(document.dependencies.map(({ ref, dependsOn = [] }) => [ref, dependsOn]));
  const reached = new Set([document.metadata.component["bom-ref"]]);
  for (const ref of reached) for (const next of needs.get(ref) ?? []) reached.add(next);
  return {
    ...document,
    components: document.components.filter((component) => reached.has(component["bom-ref"])),
    dependencies: document.dependencies.filter(({ ref }) => reached.has(ref)),
  };
}

function main(path) {
  if (!path) throw new Error("Usage: npm run sbom -- PATH");
  const folder = mkdtempSync(join(tmpdir(), "coupon-sbom-"));
  try {
    for (const name of ["package.json", "package-lock.json"]) {
      writeFileSync(join(folder, name), JSON.stringify(withoutDevelopment(name)));
    }
    const args = ["sbom", "--sbom-format", "cyclonedx", "--sbom-type", "application", "--package-lock-only"];
    const done = spawnSync("npm", args, { cwd: folder, encoding: "utf8", maxBuffer: 2 ** 26 });
    if (done.status !== 0) throw new Error(`npm sbom failed:\n${done.stderr}${done.error ?? ""}`);
    const document = onlyReached(JSON.parse(done.stdout));
    // npm calls it by its folder.
    document.metadata.component.name = "coupon-service";
    writeFileSync(resolve(path), `${JSON.stringify(document, null, 2)}\n`);
    process.stderr.write(`${document.components.length} packages are listed in ${path}\n`);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

try {
  main(process.argv[2]);
} catch (error) {
  console.error(error.message);
  process.exitCode = 1;
}
