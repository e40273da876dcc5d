import { execFile } from "node:child_process";
import { access, constants, readFile, rm, writeFile } from "node:fs/promises";
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
 * ghz, a load generator written in Go. Latency in its open loop counts from the moment of sending, which its pacer may
 * reach late. Messages are bytes to it as they are to our own generator: see `protoOf`.
 */
export const ghz: Generator = {
  name: "ghz",
  async run(load: Load, signal: AbortSignal) {
    const output = `${load.messagesFile}.report`;
    const protoFile = `${load.messagesFile}.proto`;
    await writeFile(protoFile, protoOf(load.method));
    try {
      await promisify(execFile)("ghz", [...argumentsFor(load, protoFile), "--output", output, load.target], {
        signal,
        timeout: load.seconds * 1_000 + overheadTimeoutMs,
      });
      return measurementOf(JSON.parse(await readFile(output, "utf8")));
    } finally {
      await rm(output, { force: true });
      await rm(protoFile, { force: true });
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

/**
 * The method with messages of which ghz knows no field. It passes unknown fields on and keeps them, but does not take
 * them apart: with the real types an answer of 50 user coupons costs ghz ten times as much as it costs the service, and
 * the row would measure ghz. What the answers hold is for each row's `verify` to look at.
 */
function protoOf(method: string): string {
  const [, packageName, service, name] = /^\/(.+)\.(\w+)\/(\w+)$/.exec(method)!;
  return `syntax = "proto3"; package ${packageName}; message Any {} service ${service} { rpc ${name}(Any) returns (Any); }`;
}

function argumentsFor(
  { method, messagesFile, seconds, headers = {}, requestsPerSecond }: Load,
  protoFile: string,
): string[] {
  const pace =
    requestsPerSecond === undefined
      ? ["--duration", `${seconds}s`, "--duration-stop", "wait"]
      : ["--async", "--rps", `${requestsPerSecond}`, "--total", `${requestsPerSecond * seconds}`];
  return [
    ...["--insecure", "--call", method.slice(1), "--proto", protoFile],
    // Serialised messages: JSON and templates would cost the client a parse for each call.
    ...["--binary-file", messagesFile],
    ...["--concurrency", `${saturationCallers}`, "--connections", `${connections}`],
    ...["--timeout", `${callTimeoutMs}ms`, "--count-errors", "--format", "json"],
    ...["--metadata", JSON.stringify(headers)],
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
