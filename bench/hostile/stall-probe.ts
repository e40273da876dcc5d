import { appendFileSync } from "node:fs";
import { monitorEventLoopDelay } from "node:perf_hooks";
import { isMainThread } from "node:worker_threads";
import { type Sample, sampleFileVariable } from "./samples.js";

/**
 * Loaded into the service with `--import`: writes down, again and again, how long the event loop was held at most since
 * the last time, and how much memory the process has. `/metrics` tells the first to 10 ms only, and has to be asked over
 * a port that may be under attack.
 */
const resolutionMs = 1;
const sampleEveryMs = 100;

const file = process.env[sampleFileVariable];
if (isMainThread && file) {
  const delay = monitorEventLoopDelay({ resolution: resolutionMs });
  delay.enable();
  const write = () => {
    // Between two ticks of its timer the resolution passes also when nothing holds the loop.
    const stallMs = Math.max(0, delay.max / 1e6 - resolutionMs);
    delay.reset();
    const sample: Sample = { atMs: Date.now(), stallMs, rssBytes: process.memoryUsage.rss() };
    appendFileSync(file, `${JSON.stringify(sample)}\n`);
  };
  setInterval(write, sampleEveryMs).unref();
}
