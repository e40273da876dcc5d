import { spawn } from "node:child_process";
import { join } from "node:path";
import { createInterface } from "node:readline";

const startTimeoutMs = 120_000;
const maxTailLines = 10;

/** Starts the release that is built in `folder`, on free ports. It ends with this process. */
export async function startReplica(folder, settings) {
  const child = spawn(process.execPath, ["--max-semi-space-size=32", join(folder, "dist/src/main.js")], {
    env: {
      PATH: process.env.PATH,
      HOST: "127.0.0.1",
      GRPC_PORT: "0",
      HTTP_PORT: "0",
      LOG_LEVEL: "warn",
      EXIT_ON_STDIN_CLOSE: "true",
      ...settings,
    },
    stdio: ["pipe", "pipe", "pipe"],
  });
  const tail = [];
  const keep = (line) => {
    tail.push(line);
    if (tail.length > maxTailLines) tail.shift();
  };
  const exited = new Promise((resolve) => child.once("exit", (code, signal) => resolve(signal ?? code)));
  const { grpcPort, httpPort } = await new Promise((resolve, reject) => {
    const fail = (why) => reject(new Error(`${folder}: ${why}\n${tail.join("\n")}`));
    const timer = setTimeout(() => fail("did not start in time"), startTimeoutMs);
    void exited.then((code) => fail(`ended with ${code} while it started`));
    createInterface(child.stderr).on("line", keep);
    createInterface(child.stdout).on("line", (line) => {
      if (!line.includes('"event":"serving"')) return keep(line);
      clearTimeout(timer);
      resolve(JSON.parse(line));
    });
  });
  return {
    target: `127.0.0.1:${grpcPort}`,
    httpPort,
    /** The last lines of its log: warnings and errors. */
    tail,
    /** Answers how it ended. */
    stop: () => {
      child.kill("SIGTERM");
      return exited;
    },
  };
}
