import { callTimeoutMs, connections, type Generator, type Load, saturationCallers } from "./generator.js";
import type { LoadJob, LoadResult } from "./load/job.js";
import { runInProcess } from "./load/run-in-process.js";

/** A fresh process compiles its hot code first. */
const warmUpMs = 1_000;

/** The generator of this repository: grpc-js in a process of its own. */
export const own: Generator = {
  name: "own",
  async run(load: Load, signal: AbortSignal) {
    const { target, method, messagesFile, seconds, headers = {}, requestsPerSecond } = load;
    const job: LoadJob = {
      targets: [target],
      connectionsPerTarget: connections,
      method,
      messagesFile,
      timeoutMs: callTimeoutMs,
      headers,
      mode:
        requestsPerSecond === undefined
          ? { kind: "saturation", callers: saturationCallers, warmUpMs, measuredMs: seconds * 1_000 }
          : {
              kind: "openLoop",
              requestsPerSecond,
              warmUpRequests: (requestsPerSecond * warmUpMs) / 1_000,
              requests: requestsPerSecond * seconds,
            },
    };
    const entry = new URL("./load/load-process.js", import.meta.url);
    const result: LoadResult = await runInProcess(entry, job, { signal });
    const { outcomes, ...numbers } = result;
    const { OK: ok = 0, ...refusals } = outcomes;
    return { ...numbers, ok, refusals };
  },
};
