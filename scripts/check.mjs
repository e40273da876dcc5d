// Everything that CI checks besides the tests, each with a word on how to mend it. `npm run check`.
import { spawnSync } from "node:child_process";
import { cpSync, existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
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
  if (!git("--version").ok) return skip("git is not installed");
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

const git = (...args) => run("git", args);
const skip = (why) => ({ ok: true, skipped: why });
/** Why there is nothing to be asked of git: it is not installed, or this folder is an unpacked archive. */
function withoutGit() {
  if (!git("--version").ok) return "git is not installed";
  const top = git("rev-parse", "--show-cdup");
  if (!top.ok) return top.output.split("\n", 1)[0];
  return top.output.trim() === "" ? undefined : "this folder is not the root of its git repository";
}

/** What a merge has left in files that git follows. Equals signs between two markers are one; elsewhere they may be a heading. */
function conflictMarkers() {
  const reason = withoutGit();
  if (reason) return skip(reason);
  const found = git("grep", "--no-color", "--no-column", "-InE", "^(<<<<<<< |>>>>>>> |[|]{7} |={7}\r?$)");
  // Without a match it fails and says nothing.
  if (!found.ok) return { ok: found.output === "", output: found.output };
  const open = new Set();
  const left = found.output.split("\n").filter((line) => {
    const [, file, marker] = /^(.*?):\d+:(.)/.exec(line) ?? [];
    if (marker === "<") open.add(file);
    if (marker === ">") open.delete(file);
    return marker && (marker !== "=" || open.has(file));
  });
  return { ok: left.length === 0, output: left.join("\n") };
}

/** The commit of version 0.1.0, from before releases had tags. */
const firstRelease = "1fce698c078c59c576b1b88365708f324cb3e2ed";

/**
 * What the contract must not break: the last release, or else what has landed, as far as this clone knows. What has landed
 * is not taken when it is HEAD itself, for then only changes that are not committed would be looked at.
 */
function lastLanded() {
  const tag = git("describe", "--tags", "--abbrev=0", "--match", "v[0-9]*");
  if (tag.ok) return tag.output.trim();
  const head = git("rev-parse", "HEAD").output;
  const base = git("merge-base", "HEAD", "origin/main");
  if (base.ok && base.output !== head) return base.output.trim();
  if (head.trim() !== firstRelease && git("merge-base", "--is-ancestor", firstRelease, "HEAD").ok) return firstRelease;
  return git("rev-parse", "--verify", "--quiet", "HEAD~1").ok ? "HEAD~1" : undefined;
}

/**
 * A file of the contract that has landed before it had any file options, with those of today: to name where generated code goes
 * is no break, and to name another place is one.
 */
function withOptions(text, path) {
  const present = join(root, path);
  if (/^option /m.test(text) || !existsSync(present)) return text;
  return [text, ...readFileSync(present, "utf8").match(/^option .*$/gm)].join("\n");
}

/** buf breaking against what has landed, whose files need the same third-party ones beside them. */
function breaking() {
  const reason = withoutGit();
  if (reason) return skip(reason);
  const base = lastLanded();
  if (!base) return skip("this clone has no earlier commit to compare with (git fetch --unshallow --tags brings them)");
  const paths = git("ls-tree", "-r", "--name-only", base, "proto").output.trim().split("\n").filter(Boolean);
  if (paths.length === 0) return skip(`${base} has no proto files`);
  const old = mkdtempSync(join(tmpdir(), "check-"));
  try {
    for (const path of paths) {
      mkdirSync(join(old, path, ".."), { recursive: true });
      writeFileSync(join(old, path), withOptions(git("show", `${base}:${path}`).output, path));
    }
    cpSync(join(root, "buf.yaml"), join(old, "buf.yaml"));
    cpSync(join(root, ".cache/proto"), join(old, ".cache/proto"), { recursive: true });
    return { ...run(bin("buf"), ["breaking", "--against", old]), note: `compared with ${base}` };
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

/** A planted bug whose place has changed would be noticed only when all are run, which takes half an hour. */
function plantedBugsApply() {
  const reason = withoutGit();
  if (reason) return skip(reason);
  const folder = "test/mutants";
  const wrong = readdirSync(join(root, folder)).filter((file) => !git("apply", "--check", join(folder, file)).ok);
  return { ok: wrong.length === 0, output: wrong.map((file) => `${folder}/${file} does not apply\n`).join("") };
}

const checks = [
  ["conflict markers", conflictMarkers, "finish the merge: keep what is right of both sides, and remove the markers"],
  ["format and lint", () => run(bin("biome"), ["ci", "."]), "npm run format, then mend by hand what is left"],
  ["types", () => run(bin("tsc"), ["-p", "tsconfig.json"]), "mend the types"],
  ["types of the console", () => run(bin("tsc"), ["-p", "tsconfig.console.json", "--noEmit"]), "mend the types"],
  ["third-party protos", () => run(process.execPath, [join(root, "scripts/third-party-protos.mjs")]), "npm ci"],
  ["buf format", () => run(bin("buf"), ["format", "--diff", "--exit-code", "proto"]), "npm run format"],
  ["buf lint", () => run(bin("buf"), ["lint"]), "mend the proto files"],
  [
    "buf breaking",
    breaking,
    "a contract that has landed does not break: add fields and methods, and leave the others as they are",
  ],
  ["generated code", () => unchanged("gen", () => run(bin("buf"), ["generate"])), "npm run gen, and commit gen/"],
  ["migrations", migrationsComplete, "npm run migration -- --name what_changes, and commit drizzle/"],
  ["migration journal", journalMatches, "add or remove the migration through drizzle-kit"],
  ["planted bugs", plantedBugsApply, "make the patch anew, with its first line: CONTRIBUTING.md says what it is for"],
];

let failed = 0;
for (const [name, check, remedy] of checks) {
  const { ok, output, note, skipped } = check();
  const more = skipped ?? note;
  process.stdout.write(`${skipped ? "skip" : ok ? "ok  " : "FAIL"} ${name}${more ? ` (${more})` : ""}\n`);
  if (ok) continue;
  failed += 1;
  process.stdout.write(`${output.trimEnd()}\n     to mend it: ${remedy}\n`);
}
process.exitCode = failed > 0 ? 1 : 0;
