import { readFile } from "node:fs/promises";

/** Names the file that the probe writes to. */
export const sampleFileVariable = "BENCH_SAMPLE_FILE";

export interface Sample {
  readonly atMs: number;
  readonly stallMs: number;
  /** How much processor the process had in that time. */
  readonly stallCpuMs: number;
  readonly rssBytes: number;
}

/** What the probe wrote from one moment until another. */
export async function samplesIn(file: string, fromMs: number, untilMs: number): Promise<Sample[]> {
  const lines = (await readFile(file, "utf8")).split("\n");
  // The last line may not have been written to its end.
  lines.pop();
  const samples = lines.map((line): Sample => JSON.parse(line));
  return samples.filter(({ atMs }) => atMs >= fromMs && atMs <= untilMs);
}

export function longestStall(samples: readonly Sample[]): Pick<Sample, "stallMs" | "stallCpuMs"> {
  const none = { stallMs: 0, stallCpuMs: 0 };
  return samples.reduce((longest, one) => (one.stallMs > longest.stallMs ? one : longest), none);
}

export function mostRssBytes(samples: readonly Sample[]): number {
  return Math.max(0, ...samples.map(({ rssBytes }) => rssBytes));
}
