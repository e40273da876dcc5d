import { execFile } from "node:child_process";
import { access, constants, readFile, rm } from "node:fs/promises";
import { delimiter, join } from "node:path";
import { promisify } from "node:util";
import { callTimeoutMs, connections, type Generator, type Load, saturationCallers } from "./generator.js";

/** How long ghz may take longer than the load itself: reflection, reading the messages, writing its report. */
const overheadTimeoutMs = 60_000;

/** The parts that are read of ghz's report; durations in nanoseconds. */
interface Report {
  readonly count: number;
  readonly total: number;
  readonly rps: number;
  readonly slowest: number;
  readonly statusCodeDistribution: Readonly<Record<string, number>>;
  readonly latencyDistribution: readonly { readonly percentage: number; readonly latency: number }[] | null;
}

/**
 * ghz, a load generator written in Go. It learns the methods from the server's reflection. Latency in its open loop
 * counts from the moment of sending, which its pacer may reach late.
 */
export const ghz: Generator = {
  name: "ghz",
  async run(load: Load, signal: AbortSignal) {
    const output = `${load.messagesFile}.report`;
    try {
      await promisify(execFile)("ghz", [...argumentsFor(load), "--output", output, load.target], {
        signal,
        timeout: load.seconds * 1_000 + overheadTimeoutMs,
      });
      return measurementOf(JSON.parse(await readFile(output, "utf8")));
    } finally {
      await rm(output, { force: true });
    }
  },
};

export async function ghzIsOnPath(): Promise<boolean> {
  for (const folder of (process.env.PATH ?? "").split(delimiter)) {
    const found = await access(join(folder, "ghz"), constants.X_OK).then(
      () => true,
      () => false,
    );
    if (found) return true;
  }
  return false;
}

function argumentsFor({ method, protoFile, messagesFile, seconds, requestsPerSecond }: Load): string[] {
  const pace =
    requestsPerSecond === undefined
      ? ["--duration", `${seconds}s`, "--duration-stop", "wait"]
      : ["--async", "--rps", `${requestsPerSecond}`, "--total", `${requestsPerSecond * seconds}`];
  return [
    ...["--insecure", "--call", method.slice(1), ...(protoFile === undefined ? [] : ["--proto", protoFile])],
    // Serialised messages: JSON and templates would cost the client a parse for each call.
    ...["--binary-file", messagesFile],
    ...["--concurrency", `${saturationCallers}`, "--connections", `${connections}`],
    ...["--timeout", `${callTimeoutMs}ms`, "--count-errors", "--format", "json"],
    ...pace,
  ];
}

function measurementOf({ count, total, slowest, statusCodeDistribution, latencyDistribution }: Report) {
  const { OK: ok = 0, ...refusals } = statusCodeDistribution;
  const percentileMs = (percentage: number) =>
    (latencyDistribution?.find((one) => one.percentage === percentage)?.latency ?? Number.NaN) / 1e6;
  return {
    calls: count,
    sent: count,
    callsPerSecond: count / (total / 1e9),
    ok,
    refusals,
    p50Ms: percentileMs(50),
    p99Ms: percentileMs(99),
    maxMs: slowest / 1e6,
  };
}
