import { existsSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { runService } from "../support/replica.js";

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "coupon-commands-"));
});
afterAll(() => rm(folder, { recursive: true, force: true }));

test.for([
  [["keys", "--help"], 0, /^Usage: keys /],
  [["keys", "create", "--help"], 0, /^Usage: keys create /],
  [["keys", "help", "revoke"], 0, /^Usage: keys revoke /],
  [["keys", "create"], 2, /--caller <name>/],
  [["keys", "rotate", "pqrs"], 1, /the id must be the 12 characters/],
  [["--help"], 0, /main\.js migrate /],
  [["migrate", "--help"], 0, /main\.js migrate /],
  [["migrate", "--dry-run"], 2, /migrate takes no arguments: --dry-run/],
  [["serve", "9090"], 2, /serve takes no arguments: 9090/],
  [["sevre"], 2, /there is no command sevre; there are: serve, migrate, keys/],
] as const)("%s is answered with %s, and nothing is started", async ([args, code, text]) => {
  const data = join(folder, "data");
  const ended = await runService({ DATA_DIR: data }, ...args);
  expect(ended).toEqual({
    code,
    out: code === 0 ? expect.stringMatching(text) : "",
    errors: code === 0 ? "" : expect.stringMatching(text),
  });
  expect(existsSync(data)).toBe(false);
});
