import { execFileSync } from "node:child_process";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join, posix } from "node:path";
import { packageRoot } from "../../src/platform/package-root.js";

/** Folders that no repository holds, for when there is none: in an unpacked archive, or while an image is built. */
const generated = new Set([".git", "node_modules", "dist", ".cache", "data"]);

/** What Git would store of this folder: what it follows, and what is new and not ignored. Paths from the root. */
export function repositoryFiles(): string[] {
  const root = packageRoot();
  if (!existsSync(join(root, ".git"))) return filesBelow(root, "");
  const options = ["ls-files", "--cached", "--others", "--exclude-standard", "-z"];
  const listed = execFileSync("git", options, { cwd: root, encoding: "utf8" }).split("\0");
  return [...new Set(listed)].filter((path) => path !== "" && existsSync(join(root, path)));
}

function filesBelow(root: string, folder: string): string[] {
  return readdirSync(join(root, folder), { withFileTypes: true })
    .filter(({ name }) => !generated.has(name))
    .flatMap((entry) => {
      const path = posix.join(folder, entry.name);
      return entry.isDirectory() ? filesBelow(root, path) : [path];
    });
}

export function read(path: string): string {
  return readFileSync(join(packageRoot(), path), "utf8");
}

/** A TypeScript file without its comments; `"0"` stands for the first string in it, and so on. */
export interface Scanned {
  readonly code: string;
  readonly strings: readonly string[];
}

/** After one of these, a slash begins a regular expression and is no division. */
const beforeRegex = /(?:[=(,:;!&|?{}[+\-*%~^<>]|\b(?:return|typeof|case|in|of))\s*$/;

/** Several tests look at the same files. */
const scannedBefore = new Map<string, Scanned>();

/** Replaces comments by blanks and literals by their numbers, so that patterns can be matched against what is code. */
export function scan(source: string): Scanned {
  const before = scannedBefore.get(source);
  if (before) return before;
  const scanned = scanAnew(source);
  scannedBefore.set(source, scanned);
  return scanned;
}

function scanAnew(source: string): Scanned {
  const strings: string[] = [];
  let code = "";
  let at = 0;
  const take = (pattern: RegExp): string | undefined => {
    pattern.lastIndex = at;
    const found = pattern.exec(source)?.[0];
    if (found !== undefined) at += found.length;
    return found;
  };
  const lineEnds = (text: string) => text.replace(/[^\n]/g, "") || " ";
  const literal = (text: string) => `"${strings.push(text.slice(1, -1)) - 1}"${lineEnds(text).trim()}`;
  while (at < source.length) {
    code += take(/[^"'`/]+/y) ?? "";
    if (at === source.length) break;
    const comment = take(/\/\/[^\n]*|\/\*[\s\S]*?\*\//y);
    if (comment !== undefined) {
      code += lineEnds(comment);
      continue;
    }
    const text = take(/"(?:[^"\\\n]|\\[\s\S])*"|'(?:[^'\\\n]|\\[\s\S])*'|`(?:[^`\\]|\\[\s\S])*`/y);
    if (text !== undefined) {
      code += literal(text);
      continue;
    }
    const regex = beforeRegex.test(code.slice(-20))
      ? take(/\/(?![/*])(?:[^/\\[\n]|\\.|\[(?:[^\]\\\n]|\\.)*\])+\/[a-z]*/y)
      : undefined;
    code += regex === undefined ? source[at++] : literal(regex);
  }
  return { code, strings };
}

/** Everything that a file imports or re-exports, types too. A specifier that is computed is `null`. */
export function importsOf(source: string): (string | null)[] {
  const { code, strings } = scan(source);
  const text = (index: string | undefined) => strings[Number(index)] ?? null;
  const found: (string | null)[] = [];
  const statements = /(?<![\w.$])(?:import|export)\s+(?:type\s+)?(?:[\w*{},\s$]+?\s*\bfrom\s*)?"(\d+)"/g;
  for (const [, index] of code.matchAll(statements)) found.push(text(index));
  const calls = /(?<![\w.$])(?:import|require)\s*\(\s*(?:"(\d+)"\s*[,)])?/g;
  for (const [, index] of code.matchAll(calls)) found.push(text(index));
  return found;
}
