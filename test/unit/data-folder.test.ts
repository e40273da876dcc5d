import { mkdtempSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, onTestFinished, test } from "vitest";
import { openKeptFolder } from "../../embedded/data-folder.js";

test("folders on the way to the data folder are made, and what cannot be made is said at once", async () => {
  const parent = mkdtempSync(join(tmpdir(), "coupon-folder-"));
  onTestFinished(() => rmSync(parent, { recursive: true }));
  await expect(openKeptFolder("/proc/nope/deep")).rejects.toThrow(/^(ENOENT|EACCES).*\/proc\/nope'/);
  await expect(openKeptFolder("/dev/null/deep")).rejects.toThrow("/dev/null");
  const path = join(parent, "one", "two");
  // The temporary folder may be closed to the account of the servers.
  await openKeptFolder(path).then(
    (folder) => folder.release(),
    (error: Error) => expect(error.message).toMatch(/will not do/),
  );
  expect(statSync(path).isDirectory()).toBe(true);
});
