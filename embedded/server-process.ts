import { type ChildProcess, spawn } from "node:child_process";
import { closeSync, openSync } from "node:fs";
import { setTimeout as pause } from "node:timers/promises";
import type { Account } from "./account.js";
import { freePort } from "./free-port.js";
import { logTail } from "./log-tail.js";
import type { ServerName } from "./protocol.js";

const readyPollIntervalMs = 15;
const maxPortTries = 5;

export type RunningServers = Map<ServerName, number>;

/** How to start one server, and how to tell that it is ready. */
export interface ServerCommand {
  readonly name: ServerName;
  readonly program: string;
  readonly args: readonly string[];
  readonly env: NodeJS.ProcessEnv;
  readonly account: Account | undefined;
  readonly logFile: string;
  readonly readyTimeoutMs: number;
  isReady(pid: number): Promise<boolean>;
  /** Ends a process that did not become ready. */
  stop(pid: number): Promise<void>;
  /** Where the process is listed for as long as it lives, ready or not, so that it can be stopped. */
  readonly running: RunningServers;
}

export interface ServerProcess {
  readonly pid: number;
  /** Resolves with a description of how it ended. */
  readonly ended: Promise<string>;
}

/** Starts a server and waits until it is ready. A server that does not get there is stopped before this rejects. */
export async function startServer(command: ServerCommand, signal: AbortSignal): Promise<ServerProcess> {
  signal.throwIfAborted();
  const child = spawnServer(command);
  let how: string | undefined;
  const ended = new Promise<string>((resolve) => {
    child.once("error", (error) => resolve(error.message));
    child.once("exit", (code, exitSignal) => resolve(exitSignal ? `killed by ${exitSignal}` : `exit code ${code}`));
  });
  void ended.then((description) => {
    how = description;
    command.running.delete(command.name);
  });
  const { pid } = child;
  if (pid === undefined) {
    throw new Error(`Could not start ${command.program}: ${await ended}`);
  }
  command.running.set(command.name, pid);
  const deadline = Date.now() + command.readyTimeoutMs;
  while (!(await command.isReady(pid))) {
    if (how !== undefined || signal.aborted || Date.now() > deadline) {
      const problem = how ?? (signal.aborted ? "cancelled" : `not ready after ${command.readyTimeoutMs / 1000} s`);
      if (how === undefined) {
        await command.stop(pid);
      }
      await ended;
      throw new Error(`${command.name} did not start (${problem}). The end of its log:\n${logTail(command.logFile)}`);
    }
    await pause(readyPollIntervalMs);
  }
  return { pid, ended };
}

function spawnServer({ program, args, env, account, logFile }: ServerCommand): ChildProcess {
  // The log goes to a file and not through the supervisor, so that a server never waits for it, or fails with it.
  const log = openSync(logFile, "a", 0o600);
  try {
    return spawn(program, args, { cwd: "/", env, ...account, stdio: ["ignore", log, log] });
  } finally {
    closeSync(log);
  }
}

/** Calls `start` with a free port, and again with another one when somebody took the port in between. */
export async function onFreePort<T>(start: (port: number) => Promise<T>): Promise<T> {
  for (let tries = 1; ; tries++) {
    try {
      return await start(await freePort());
    } catch (error) {
      if (tries === maxPortTries || !/address already in use/i.test(String(error))) {
        throw error;
      }
    }
  }
}
