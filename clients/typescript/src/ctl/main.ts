import type { Io } from "./io.js";
import { run } from "./program.js";

const interrupted = new AbortController();
process.once("SIGINT", () => interrupted.abort());
process.once("SIGTERM", () => interrupted.abort());
// Whoever reads has had enough, as `head` has.
process.stdout.on("error", (error: NodeJS.ErrnoException) => process.exit(error.code === "EPIPE" ? 0 : 1));

const io: Io = {
  out: (text) => process.stdout.write(text),
  say: (text) => process.stderr.write(text),
  env: process.env,
  terminal: process.stdout.isTTY === true,
  sayTerminal: process.stderr.isTTY === true,
  // Some terminals do not say, which is 0.
  columns: process.stdout.columns || 80,
  signal: interrupted.signal,
};
process.exitCode = await run(process.argv.slice(2), io);
