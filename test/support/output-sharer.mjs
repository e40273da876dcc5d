import { spawn } from "node:child_process";
import { once } from "node:events";
import { writeSync } from "node:fs";

/**
 * Loaded into a process before its own code: starts a Node that shares its standard output, as npm or a runner does, and writes its pid
 * there. When that one is told to end (SIGTERM), it fills the pipe, and leaves it as it found it: as one whose writers wait.
 */
const program = `
  const { writeSync } = require("node:fs");
  process.on("message", () => {}).once("disconnect", () => process.exit());
  const fill = (count = 0) => {
    try {
      for (;;) count += writeSync(1, "-".repeat(512));
    } catch {
      // Its reader may still take some into its own memory.
      setTimeout(() => (count === 0 ? process.exit() : fill()), 300);
    }
  };
  process.once("SIGTERM", () => fill());
  process.send("up");`;

const { NODE_OPTIONS: _, ...env } = process.env;
const sharer = spawn(process.execPath, ["--eval", program], { env, stdio: ["ignore", "inherit", "inherit", "ipc"] });
await once(sharer, "message");
writeSync(1, `${JSON.stringify({ event: "sharer", pid: sharer.pid })}\n`);
sharer.unref();
sharer.channel.unref();
