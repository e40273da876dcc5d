import { spawn } from "node:child_process";
import { once } from "node:events";
import { open } from "node:fs/promises";
import { join } from "node:path";
import { expect, onTestFinished, test } from "vitest";
import { packageRoot } from "../../src/platform/package-root.js";

const logger = join(packageRoot(), "dist/src/platform/logger.js");
const program = `
  const { createLogger } = await import(${JSON.stringify(logger)});
  const { log, exit } = createLogger("info");
  process.stdin.resume().once("end", async () => {
    log.info("the last line");
    await exit(3);
  });`;

// The library's own synchronous flush tries again for ever when the pipe is broken, and the process never ends.
test("a process whose log nobody reads any more ends all the same", async () => {
  const child = spawn(process.execPath, ["--input-type=module", "--eval", program], {
    stdio: ["pipe", "pipe", "inherit"],
  });
  onTestFinished(() => void child.kill("SIGKILL"));
  child.stdout.destroy();
  child.stdin.end();
  expect(await once(child, "exit")).toEqual([3, null]);
});

test("a process whose log somebody holds and does not read ends all the same", async () => {
  const filling = program.replace(
    'log.info("the last line");',
    'for (let n = 0; n < 20000; n += 1) log.info("a line of many");',
  );
  const child = spawn(process.execPath, ["--input-type=module", "--eval", filling], {
    stdio: ["pipe", "pipe", "inherit"],
  });
  onTestFinished(() => void child.kill("SIGKILL"));
  child.stdin.end();
  expect(await once(child, "exit")).toEqual([3, null]);
});

test("a full disk ends no process: it keeps what there is room for, and drops the rest", async () => {
  const full = `
    import { stat } from "node:fs/promises";
    const { createLogger } = await import(${JSON.stringify(logger)});
    const { log, droppedLines, exit } = createLogger("info");
    // As it waits for the disk elsewhere, it is told of the write that has failed.
    for (; droppedLines() === 0; await stat("/")) log.info("a line".repeat(10_000));
    await exit(3);`;
  const disk = await open("/dev/full", "w");
  onTestFinished(() => disk.close());
  const child = spawn(process.execPath, ["--input-type=module", "--eval", full], {
    stdio: ["ignore", disk.fd, "inherit"],
  });
  onTestFinished(() => void child.kill("SIGKILL"));
  expect(await once(child, "exit")).toEqual([3, null]);
});

test("the last lines are written before the process ends", async () => {
  const child = spawn(process.execPath, ["--input-type=module", "--eval", program], {
    stdio: ["pipe", "pipe", "inherit"],
  });
  onTestFinished(() => void child.kill("SIGKILL"));
  let text = "";
  child.stdout.on("data", (bytes) => {
    text += bytes;
  });
  child.stdin.end();
  await once(child, "close");
  expect(text).toContain("the last line");
});
