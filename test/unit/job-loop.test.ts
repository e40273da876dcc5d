import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { StoreUnavailable } from "../../src/domain/refusal.js";
import { type Job, JobLoop } from "../../src/jobs/job-loop.js";
import { FailureLog } from "../../src/platform/failure-log.js";

const pauseMs = 1_000;
/** A pause is at most a quarter longer, and at least three quarters of its nominal length. */
const longestMs = pauseMs * 1.25;
const shortestMs = pauseMs * 0.75;

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

const quiet = new FailureLog({ log: { warn: () => {}, error: () => {} } });
const uncounted = { jobRan: () => {} };
const loopOf = (run: Job["run"], stop?: Job["stop"]) =>
  new JobLoop({ name: "job", pauseMs, run, ...(stop && { stop }) }, quiet, uncounted);

/** Work that ends when the test says so. */
function manual() {
  const ends: { resolve: () => void; reject: (error: unknown) => void }[] = [];
  const work = vi.fn(() => new Promise<void>((resolve, reject) => void ends.push({ resolve, reject })));
  return { work, end: () => ends.shift()?.resolve(), fail: (error: unknown) => ends.shift()?.reject(error) };
}

test("the first run comes after a pause, which is not the same each time", async () => {
  const { work } = manual();
  for (const [luck, waitMs] of [
    [0, shortestMs],
    [0.996, 1_248],
  ] as const) {
    vi.spyOn(Math, "random").mockReturnValueOnce(luck);
    const loop = loopOf(work);
    loop.start();
    work.mockClear();
    await vi.advanceTimersByTimeAsync(waitMs - 1);
    expect(work).toHaveBeenCalledTimes(0);
    await vi.advanceTimersByTimeAsync(1);
    expect(work).toHaveBeenCalledTimes(1);
  }
});

test("a job that rests for a week first runs within an hour or so, so that it runs where replicas are replaced each day", async () => {
  const weekMs = 7 * 86_400_000;
  const work = vi.fn(async () => {});
  new JobLoop({ name: "job", pauseMs: weekMs, run: work }, quiet, uncounted).start();
  await vi.advanceTimersByTimeAsync(75 * 60_000);
  expect(work).toHaveBeenCalledTimes(1);
  await vi.advanceTimersByTimeAsync(0.75 * weekMs - 1);
  expect(work).toHaveBeenCalledTimes(1);
  await vi.advanceTimersByTimeAsync(0.5 * weekMs + 1);
  expect(work).toHaveBeenCalledTimes(2);
});

test("a run begins a pause after the end of the one before, however long that took", async () => {
  const { work, end } = manual();
  const loop = loopOf(work);
  loop.start();
  await vi.advanceTimersByTimeAsync(longestMs);
  expect(work).toHaveBeenCalledTimes(1);
  await vi.advanceTimersByTimeAsync(10 * longestMs);
  expect(work).toHaveBeenCalledTimes(1);
  end();
  await vi.advanceTimersByTimeAsync(shortestMs - 1);
  expect(work).toHaveBeenCalledTimes(1);
  await vi.advanceTimersByTimeAsync(longestMs);
  expect(work).toHaveBeenCalledTimes(2);
});

test("a store that fails for a minute: a line at the beginning, one at the end, and metrics between", async () => {
  const { work, end, fail } = manual();
  const lines: object[] = [];
  const write = (level: string) => (details: object, message: string) =>
    void lines.push({ level, message, ...details });
  const runs: string[] = [];
  const loop = new JobLoop(
    { name: "sweep", pauseMs, run: work },
    new FailureLog({ log: { warn: write("warn"), error: write("error") }, now: () => Date.now() }),
    { jobRan: (job, outcome) => void runs.push(`${job} ${outcome}`) },
  );
  loop.start();
  await vi.advanceTimersByTimeAsync(longestMs);
  end();
  const beganMs = Date.now();
  let failures = 0;
  for (; Date.now() - beganMs < 60_000; failures += 1) {
    await vi.advanceTimersByTimeAsync(longestMs);
    fail(new StoreUnavailable());
    await vi.advanceTimersByTimeAsync(0);
  }
  expect(lines).toEqual([expect.objectContaining({ level: "error", work: "sweep" })]);
  expect(runs).toEqual(["sweep OK", ...Array(failures).fill("sweep FAILED")]);
  for (let round = 0; round < 5; round += 1) {
    await vi.advanceTimersByTimeAsync(longestMs);
    end();
  }
  await vi.advanceTimersByTimeAsync(0);
  expect(lines.slice(1)).toEqual([expect.objectContaining({ level: "warn", work: "sweep", failures })]);
  expect(runs.at(-1)).toBe("sweep OK");
});

test("close waits for what a job has begun besides", async () => {
  let ended = () => {};
  const loop = loopOf(
    async () => {},
    () => new Promise<void>((resolve) => (ended = resolve)),
  );
  loop.start();
  let closed = false;
  const closing = loop.close().then(() => {
    closed = true;
  });
  await vi.advanceTimersByTimeAsync(0);
  expect(closed).toBe(false);
  ended();
  await closing;
});

test("close waits for the run under way, and no other one comes after it", async () => {
  const { work, end } = manual();
  const loop = loopOf(work);
  loop.start();
  await vi.advanceTimersByTimeAsync(longestMs);
  let closed = false;
  const closing = loop.close().then(() => {
    closed = true;
  });
  await vi.advanceTimersByTimeAsync(10 * longestMs);
  expect(closed).toBe(false);
  end();
  await closing;
  await vi.advanceTimersByTimeAsync(10 * longestMs);
  expect(work).toHaveBeenCalledTimes(1);
  expect(vi.getTimerCount()).toBe(0);
});

test("close between two runs, or before the first start, ends it at once", async () => {
  const { work } = manual();
  const loop = loopOf(work);
  loop.start();
  await loop.close();
  loop.start();
  await vi.advanceTimersByTimeAsync(10 * longestMs);
  expect(work).toHaveBeenCalledTimes(0);
  expect(vi.getTimerCount()).toBe(0);
});

test("a job that is hurried runs at once, or right after the run under way, and then goes on as before", async () => {
  const { work, end } = manual();
  const loop = loopOf(work);
  loop.start();
  loop.hurry();
  await vi.advanceTimersByTimeAsync(0);
  expect(work).toHaveBeenCalledTimes(1);
  loop.hurry();
  await vi.advanceTimersByTimeAsync(longestMs);
  expect(work).toHaveBeenCalledTimes(1);
  end();
  await vi.advanceTimersByTimeAsync(0);
  expect(work).toHaveBeenCalledTimes(2);
  end();
  await vi.advanceTimersByTimeAsync(longestMs);
  expect(work).toHaveBeenCalledTimes(3);
  end();
  await loop.close();
  loop.hurry();
  await vi.advanceTimersByTimeAsync(longestMs);
  expect(work).toHaveBeenCalledTimes(3);
});
