/** What a worker process sends to the process that started it. */
export type FromWorker<Progress, Result> =
  | { readonly progress: Progress }
  | { readonly result: Result }
  | { readonly error: string };

/**
 * The worker's half of `runInProcess`: takes one job over IPC, does it, sends the result back and ends. It ends as well
 * when the process that started it is gone, however that one died.
 */
export function serveOneJob<Job, Progress, Result>(
  work: (job: Job, report: (progress: Progress) => void) => Promise<Result>,
): void {
  // Every grpc-js call captures a stack trace to show in a possible error, which the load pays for and never reads.
  Error.stackTraceLimit = 0;
  // Ctrl-C reaches the whole process group: who started this process decides when it ends.
  process.on("SIGINT", () => {});
  process.once("disconnect", () => process.exit());
  const answer = (message: FromWorker<Progress, Result>, then = () => {}) => process.send?.(message, then);
  process.once("message", (job: Job) => {
    work(job, (progress) => answer({ progress })).then(
      (result) => answer({ result }, () => process.exit()),
      (error: unknown) => answer({ error: String(error) }, () => process.exit(1)),
    );
  });
}
