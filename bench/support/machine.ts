import { availableParallelism, cpus } from "node:os";
import { setTimeout as sleep } from "node:timers/promises";

const sampleMs = 1_000;

/** "2 cores (Intel(R) Xeon(R) Processor), Node v24.0.0" */
export function describeMachine(): string {
  return `${availableParallelism()} cores (${cpus()[0]?.model ?? "unknown"}), Node ${process.version}`;
}

/** The share of all cores, from 0 to 1, that other programs use at this moment. */
export async function busyShare(): Promise<number> {
  const before = ticks();
  await sleep(sampleMs);
  const after = ticks();
  return 1 - (after.idle - before.idle) / Math.max(after.all - before.all, 1);
}

function ticks() {
  const times = cpus().map((core) => core.times);
  const idle = times.reduce((total, core) => total + core.idle, 0);
  const all = times.reduce((total, core) => total + core.idle + core.user + core.nice + core.sys + core.irq, 0);
  return { idle, all };
}
