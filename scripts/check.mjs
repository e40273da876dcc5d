// Everything that CI checks besides the tests, each with a word on how to mend it. `npm run check`.
import { spawnSync } from "node:child_process";
import { cpSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { root } from "./build.mjs";

const bin = (name) => join(root, "node_modules/.bin", name);

function run(command, args, options = {}) {
  const done = spawnSync(command, args, { cwd: root, encoding: "utf8", ...options });
  return { ok: done.status === 0, output: `${done.stdout ?? ""}${done.stderr ?? ""}${done.error ?? ""}` };
}

/** Runs a tool that writes a folder, and tells whether that changed it. The folder is left as it was found. */
function unchanged(folder, write) {
  const keep = mkdtempSync(join(tmpdir(), "check-"));
  try {
    cpSync(join(root, folder), join(keep, "before"), { recursive: true });
    const written = write();
    if (!written.ok) return written;
    return run("git", ["diff", "--no-index", "--stat", join(keep, "before"), join(root, folder)]);
  } finally {
    rmSync(join(root, folder), { recursive: true, force: true });
    cpSync(join(keep, "before"), join(root, folder), { recursive: true });
    rmSync(keep, { recursive: true, force: true });
  }
}

/** buf breaking against the last commit, whose files need the same third-party ones beside them. */
function breaking() {
  const archive = run("git", ["rev-parse", "--verify", "HEAD:proto"]);
  if (!archive.ok) return { ok: true, output: "" };
  const old = mkdtempSync(join(tmpdir(), "check-"));
  try {
    for (const path of run("git", ["ls-tree", "-r", "--name-only", "HEAD", "proto"]).output.trim().split("\n")) {
      mkdirSync(join(old, path, ".."), { recursive: true });
      writeFileSync(join(old, path), run("git", ["show", `HEAD:${path}`]).output);
    }
    cpSync(join(root, "buf.yaml"), join(old, "buf.yaml"));
    cpSync(join(root, ".cache/proto"), join(old, ".cache/proto"), { recursive: true });
    return run(bin("buf"), ["breaking", "--against", old]);
  } finally {
    rmSync(old, { recursive: true, force: true });
  }
}

function migrationsComplete() {
  return unchanged("drizzle", () => run(bin("drizzle-kit"), ["generate"]));
}

/** Every migration that the journal names is there, and none besides. */
function journalMatches() {
  const { entries } = JSON.parse(readFileSync(join(root, "drizzle/meta/_journal.json"), "utf8"));
  const named = entries.map(({ tag }) => `${tag}.sql`).sort();
  const found = readdirSync(join(root, "drizzle"))
    .filter((file) => file.endsWith(".sql"))
    .sort();
  const ok = JSON.stringify(named) === JSON.stringify(found);
  return { ok, output: ok ? "" : `journal: ${named}\nfolder: ${found}\n` };
}

const checks = [
  ["format and lint", () => run(bin("biome"), ["ci", "."]), "npm run format, then mend by hand what is left"],
  ["types", () => run(bin("tsc"), ["-p", "tsconfig.json"]), "mend the types"],
  ["third-party protos", () => run(process.execPath, [join(root, "scripts/third-party-protos.mjs")]), "npm ci"],
  ["buf format", () => run(bin("buf"), ["format", "--diff", "--exit-code", "proto"]), "npm run format"],
  ["buf lint", () => run(bin("buf"), ["lint"]), "mend the proto files"],
  ["buf breaking", breaking, "a contract that has landed does not break: add, do not change"],
  ["generated code", () => unchanged("gen", () => run(bin("buf"), ["generate"])), "npm run gen, and commit gen/"],
  ["migrations", migrationsComplete, "npm run migration -- --name what_changes, and commit drizzle/"],
  ["migration journal", journalMatches, "add or remove the migration through drizzle-kit"],
];

let failed = 0;
for (const [name, check, remedy] of checks) {
  const { ok, output } = check();
  process.stdout.write(`${ok ? "ok  " : "FAIL"} ${name}\n`);
  if (ok) continue;
  failed += 1;
  process.stdout.write(`${output.trimEnd()}\n     to mend it: ${remedy}\n`);
}
process.exitCode = failed > 0 ? 1 : 0;
