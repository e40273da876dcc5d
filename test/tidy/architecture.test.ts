import { describe, expect, test } from "vitest";
import { read, repositoryFiles } from "./sources.js";

/** What docs/architecture.md says of files and tables is looked up in them. */
const architecture = read("docs/architecture.md");
const sources = repositoryFiles().filter((path) => /^src\/.*\.(ts|sql)$/.test(path));

describe("the way of three calls", () => {
  const walks = /### The way of three calls[^`]*```\n([^`]*)```/.exec(architecture)?.[1] ?? "";
  const hops = [...walks.matchAll(/\d+ ([\w/-]+\.(?:ts|sql|lua))(?: {2}(\w+(?:, \w+)*))?/g)].map(
    ([, file, names]) => [file as string, names?.split(", ") ?? []] as const,
  );

  test("has a file in each hop", () => {
    expect(hops.length).toBe(walks.match(/\d+ [a-z]/g)?.length);
    expect(hops.length).toBeGreaterThan(30);
  });

  test.for([...new Map(hops.map(([file, names]) => [`${file} ${names}`, [file, names] as const])).values()])(
    "%s has %j",
    ([file, names]) => {
      const source = read(`src/${file}`);
      const declared = (name: string) => new RegExp(`^\\s*(?:(?:export|private|async|function) )*${name}[<(]`, "m");
      for (const name of names) expect(declared(name).test(source), `${name} is declared in ${file}`).toBe(true);
    },
  );
});

test("every table is in the list of the tables, and no other", () => {
  const tables = sources.flatMap((path) =>
    [...read(path).matchAll(/(?:\bpgTable\(|\bCREATE TABLE IF NOT EXISTS public\.)\s*"?(\w+)/g)].map(
      ([, name]) => name,
    ),
  );
  const list = /## The tables\n([^#]*?)\n\n[^|\n]/.exec(architecture)?.[1] ?? "";
  const listed = list.split("\n").flatMap((line) => [...(line.split("|")[1] ?? "").matchAll(/`(\w+)`/g)]);
  expect(listed.map(([, name]) => name).sort()).toEqual([...new Set(tables)].sort());
  expect(tables).toContain("relay_state");
});
