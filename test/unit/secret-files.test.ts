import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { inspect } from "node:util";
import { afterAll, expect, test } from "vitest";
import { readConfig, secretNames, settingNames } from "../../src/config.js";
import { Secret } from "../../src/platform/secrets/secret.js";

const folder = mkdtempSync(join(tmpdir(), "coupon-secrets-"));
afterAll(() => rmSync(folder, { recursive: true }));

let files = 0;
function file(content: string | Uint8Array): string {
  files += 1;
  const path = join(folder, `secret-${files}`);
  writeFileSync(path, content);
  return path;
}

const url = "postgres://anna:hush-hush@db:5432/coupons";

test("every setting that may have a password in it is a secret, and each may be in a file", () => {
  expect(secretNames).toEqual(expect.arrayContaining(["DATABASE_URL", "REDIS_URL", "REDIS_SENTINEL_PASSWORD"]));
  expect(
    settingNames
      .filter((name) => /PASSWORD|SECRET|(?<!JWKS_)URL|HEADERS|USER_IDS_KEY/.test(name.replace(/_FILE$/, "")))
      .sort(),
  ).toEqual(secretNames.flatMap((name) => [name, `${name}_FILE`]).sort());
});

test.for([[url], [`${url}\n`], [`${url}\r\n`]])(
  "a secret is read from a file, without the end of its line: %j",
  ([text]) => {
    expect(readConfig({ DATABASE_URL_FILE: file(text as string) }).DATABASE_URL?.reveal()).toBe(url);
  },
);

test("blanks belong to a secret, and so does all but one end of line", () => {
  const all = {
    DATABASE_URL: url,
    REDIS_URL: "redis+sentinel://watch/coupons",
    REDIS_SENTINEL_PASSWORD_FILE: file(" two words \n"),
  };
  expect(readConfig(all).REDIS_SENTINEL_PASSWORD?.reveal()).toBe(" two words ");
});

test("what was given is not shown, however it is printed", () => {
  const config = readConfig({ DATABASE_URL: url, REDIS_URL_FILE: file("redis://:hush-hush@cache") });
  const printed = [
    JSON.stringify(config),
    inspect(config, { depth: 9, showHidden: true }),
    `${config.DATABASE_URL}`,
    JSON.stringify({ ...config }),
  ];
  for (const text of printed) {
    expect(text).not.toContain("hush");
    expect(text).toContain("[secret]");
  }
  expect(config.DATABASE_URL).toBeInstanceOf(Secret);
});

const pipe = join(folder, "pipe");
execFileSync("mkfifo", [pipe]);

test.for([
  ["that is not there", () => join(folder, "nothing"), "must name a file that can be read (ENOENT)"],
  ["that is a folder", () => folder, "must name a file, and no folder or pipe"],
  ["that is a pipe, to which nobody writes", () => pipe, "must name a file, and no folder or pipe"],
  ["that is empty", () => file("\n"), "names a file that is empty"],
  ["that is too large", () => file("hush".repeat(4_097)), "names a file of more than 16384 bytes"],
  ["of several lines", () => file(`${url}\nhush\n`), "names a file of more than one line"],
  ["that is no text", () => file(new Uint8Array([0x68, 0xff])), "names a file that is no text in UTF-8"],
  [
    "with a wrong value",
    () => file("postgress://anna:hush@db/x"),
    "must be postgres://user:password@host:port/database",
  ],
] as const)("a file %s ends the start, and its setting is named: %s", ([, path, message]) => {
  const read = () => readConfig({ DATABASE_URL_FILE: path(), REDIS_URL: "redis://cache" });
  expect(read).toThrow(`these settings are wrong:\n  DATABASE_URL_FILE: ${message}`);
  expect(read).not.toThrow(/hush|\n.*\n.*\n/);
});

test("a secret and a file for it are not given together, and an empty name counts as absent", () => {
  const both = { DATABASE_URL: url, DATABASE_URL_FILE: file(url) };
  expect(() => readConfig(both)).toThrow("  DATABASE_URL_FILE: cannot be given together with DATABASE_URL");
  expect(readConfig({ ...both, DATABASE_URL_FILE: "" }).DATABASE_URL?.reveal()).toBe(url);
});

test("what belongs to a secret is held against what is in its file", () => {
  const settings = { REDIS_URL_FILE: file("redis+cluster://:hush-hush@a,b") };
  expect(() => readConfig(settings)).toThrow("  REDIS_URL_FILE: needs DATABASE_URL");
  expect(() => readConfig({ ...settings, DATABASE_URL: url, REDIS_SENTINEL_PASSWORD_FILE: file("hush") })).toThrow(
    "  REDIS_SENTINEL_PASSWORD_FILE: needs a REDIS_URL that begins with redis+sentinel",
  );
});
