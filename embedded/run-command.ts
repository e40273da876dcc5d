import { spawn } from "node:child_process";
import type { Account } from "./account.js";
import { lastLines } from "./log-tail.js";

const outputLimitCharacters = 100_000;

export interface CommandOptions {
  readonly timeoutMs: number;
  readonly env: NodeJS.ProcessEnv;
  readonly signal?: AbortSignal;
  readonly account?: Account | undefined;
  readonly cwd?: string;
  /** Given to the command on its standard input. */
  readonly input?: string;
}

/**
 * Runs a short command and answers what it printed, both streams together. A command that fails, that takes too long or
 * whose signal is aborted rejects; in the last two cases it and all that it started are killed.
 */
export function runCommand(command: string, args: readonly string[], options: CommandOptions): Promise<string> {
  const { timeoutMs, env, signal, account, cwd = "/", input = "" } = options;
  return new Promise((resolve, reject) => {
    signal?.throwIfAborted();
    // A process group of its own, so that a kill reaches the helpers that apt-get and initdb start.
    const child = spawn(command, args, { cwd, env, ...account, detached: true, stdio: "pipe" });
    let output = "";
    let killedBecause: string | undefined;
    const kill = (because: string): void => {
      killedBecause ??= because;
      try {
        process.kill(-child.pid!, "SIGKILL");
      } catch {
        // It ended by itself at the same moment.
      }
    };
    const onAbort = (): void => kill("the start was cancelled");
    const timer = setTimeout(() => kill(`it took more than ${timeoutMs / 1000} s`), timeoutMs);
    signal?.addEventListener("abort", onAbort, { once: true });
    const collect = (chunk: string): void => {
      output = (output + chunk).slice(-outputLimitCharacters);
    };
    child.stdout.setEncoding("utf8").on("data", collect);
    child.stderr.setEncoding("utf8").on("data", collect);
    // A command that ends without reading its input is judged by its exit code.
    child.stdin.on("error", () => {});
    child.stdin.end(input);
    const settle = (problem: string | undefined): void => {
      clearTimeout(timer);
      signal?.removeEventListener("abort", onAbort);
      if (problem === undefined) {
        resolve(output);
      } else {
        reject(new Error(`${command} failed: ${problem}\n${lastLines(output)}`.trimEnd()));
      }
    };
    child.once("error", (error) => settle(error.message));
    child.once("close", (code, exitSignal) =>
      settle(killedBecause ?? (code === 0 ? undefined : `it ended with ${exitSignal ?? `code ${code}`}`)),
    );
  });
}
