import { appendFileSync } from "node:fs";
import { isMainThread } from "node:worker_threads";
import { type Sample, sampleFileVariable } from "./samples.js";

/**
 * Loaded into the service with `--import`: writes down, again and again, how long the event loop was held at most since
 * the last time, and how much memory the process has. `/metrics` tells the first to 10 ms only, and has to be asked over
 * a port that may be under attack. And Node's `monitorEventLoopDelay`, which stands behind it, misses a stall that
 * begins right after a reset: one that follows another, as they do here.
 */
const resolutionMs = 1;
const sampleEveryMs = 100;

const file = process.env[sampleFileVariable];
if (isMainThread && file) {
  let lastTickMs = performance.now();
  let lastSampleMs = lastTickMs;
  let stallMs = 0;
  const tick = () => {
    const nowMs = performance.now();
    stallMs = Math.max(stallMs, nowMs - lastTickMs - resolutionMs);
    lastTickMs = nowMs;
    if (nowMs - lastSampleMs < sampleEveryMs) return;
    const sample: Sample = { atMs: Date.now(), stallMs, rssBytes: process.memoryUsage.rss() };
    appendFileSync(file, `${JSON.stringify(sample)}\n`);
    lastSampleMs = nowMs;
    stallMs = 0;
  };
  setInterval(tick, resolutionMs).unref();
}
