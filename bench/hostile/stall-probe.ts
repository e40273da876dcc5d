import { appendFileSync } from "node:fs";
import { isMainThread } from "node:worker_threads";
import { type Sample, sampleFileVariable } from "./samples.js";

/**
 * Loaded into the service with `--import`: writes down, again and again, how long the event loop was held at most since
 * the last time, and how much memory the process has. `/metrics` tells the first to 10 ms only, and has to be asked over
 * a port that may be under attack. And Node's `monitorEventLoopDelay`, which stands behind it, misses a stall that
 * begins right after a reset: one that follows another, as they do here. How much processor the process had meanwhile
 * tells work from waiting for a core, which others have, or the host of this machine.
 */
const resolutionMs = 1;
const sampleEveryMs = 100;

const file = process.env[sampleFileVariable];
if (isMainThread && file) {
  let lastTickMs = performance.now();
  let lastSampleMs = lastTickMs;
  let lastCpuMs = cpuMs();
  let stallMs = 0;
  let stallCpuMs = 0;
  const tick = () => {
    const nowMs = performance.now();
    const nowCpuMs = cpuMs();
    const heldMs = nowMs - lastTickMs - resolutionMs;
    if (heldMs > stallMs) {
      stallMs = heldMs;
      stallCpuMs = nowCpuMs - lastCpuMs;
    }
    lastTickMs = nowMs;
    lastCpuMs = nowCpuMs;
    if (nowMs - lastSampleMs < sampleEveryMs) return;
    const sample: Sample = { atMs: Date.now(), stallMs, stallCpuMs, rssBytes: process.memoryUsage.rss() };
    appendFileSync(file, `${JSON.stringify(sample)}\n`);
    lastSampleMs = nowMs;
    stallMs = 0;
    stallCpuMs = 0;
  };
  setInterval(tick, resolutionMs).unref();
}

/** Of all threads, so it may be more than the time that has passed. */
function cpuMs(): number {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1_000;
}
