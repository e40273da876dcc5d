import { fork } from "node:child_process";
import type { FromWorker } from "./worker-side.js";

/**
 * Runs one job in a process of its own, so that making load and showing it do not disturb each other. `entry` is a
 * module that calls `serveOneJob`. Aborting ends the process.
 */
export function runInProcess<Job, Progress, Result>(
  entry: URL,
  job: Job,
  options: { readonly onProgress?: (progress: Progress) => void; readonly signal?: AbortSignal } = {},
): Promise<Result> {
  return new Promise((resolve, reject) => {
    options.signal?.throwIfAborted();
    const child = fork(entry, { serialization: "advanced", execArgv: [] });
    const abort = () => child.kill("SIGKILL");
    options.signal?.addEventListener("abort", abort);
    child.on("message", (message: FromWorker<Progress, Result>) => {
      if ("progress" in message) options.onProgress?.(message.progress);
      else if ("result" in message) resolve(message.result);
      else reject(new Error(`The load process failed: ${message.error}`));
    });
    child.once("error", reject);
    child.once("exit", (code, signal) => {
      options.signal?.removeEventListener("abort", abort);
      // Without effect after a result.
      reject(
        options.signal?.aborted ? options.signal.reason : new Error(`The load process ended (${signal ?? code}).`),
      );
    });
    child.send(job as object);
  });
}
