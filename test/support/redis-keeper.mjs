/**
 * Runs servers for a test, and ends them when the test's process ends, however it ends. Its folder goes with them.
 *
 *     node redis-keeper.mjs FOLDER
 *
 * Standard input has a line of JSON for each server to start: {"id", "program", "args", "env"}. Standard output has one for
 * each that was started, {"id", "pid"}, and for each that ended, {"id", "ended"}. The end of standard input is the end of all.
 */
import { spawn } from "node:child_process";
import { openSync, rmSync } from "node:fs";
import { join } from "node:path";
import { createInterface } from "node:readline";

const folder = process.argv[2];
const running = new Set();
const say = (message) => process.stdout.write(`${JSON.stringify(message)}\n`);
// These go to all processes of a terminal or of a command; the test's process ends, and then so does this one.
for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"]) process.on(signal, () => {});
process.stdout.on("error", () => {});

const lines = createInterface({ input: process.stdin });
lines.on("line", (line) => {
  const { id, program, args, env } = JSON.parse(line);
  const log = openSync(join(folder, `${id}.log`), "a", 0o600);
  const child = spawn(program, args, { cwd: folder, env, stdio: ["ignore", log, log] });
  running.add(child);
  child.once("error", (error) => say({ id, ended: error.message }));
  child.once("exit", (code, signal) => {
    running.delete(child);
    say({ id, ended: signal ?? code });
    if (closing) leave();
  });
  say({ id, pid: child.pid });
});

let closing = false;
lines.once("close", () => {
  closing = true;
  for (const child of running) child.kill("SIGKILL");
  leave();
});

function leave() {
  if (running.size > 0) return;
  rmSync(folder, { recursive: true, force: true, maxRetries: 3 });
  process.exit(0);
}
