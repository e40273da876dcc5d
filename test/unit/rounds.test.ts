import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { Rounds } from "../../src/platform/rounds.js";

const pauseMs = 1_000;
/** A pause is at most a quarter longer, and at least three quarters of its nominal length. */
const longestMs = pauseMs * 1.25;
const shortestMs = pauseMs * 0.75;

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

/** Work that ends when the test says so. */
function manual() {
  const ends: { resolve: () => void; reject: (error: unknown) => void }[] = [];
  const work = vi.fn(() => new Promise<void>((resolve, reject) => void ends.push({ resolve, reject })));
  return { work, end: () => ends.shift()?.resolve(), fail: (error: unknown) => ends.shift()?.reject(error) };
}

test("the first round comes after a pause, which is not the same each time", async () => {
  const { work } = manual();
  for (const [luck, waitMs] of [
    [0, shortestMs],
    [0.996, 1_248],
  ] as const) {
    vi.spyOn(Math, "random").mockReturnValueOnce(luck);
    const rounds = new Rounds(work, pauseMs, () => {});
    rounds.start();
    work.mockClear();
    await vi.advanceTimersByTimeAsync(waitMs - 1);
    expect(work).toHaveBeenCalledTimes(0);
    await vi.advanceTimersByTimeAsync(1);
    expect(work).toHaveBeenCalledTimes(1);
  }
});

test("a round begins a pause after the end of the one before, however long that took", async () => {
  const { work, end } = manual();
  const rounds = new Rounds(work, pauseMs, () => {});
  rounds.start();
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

test("a round that fails is reported, and the next one comes all the same", async () => {
  const { work, fail } = manual();
  const errors: unknown[] = [];
  const rounds = new Rounds(work, pauseMs, (error) => void errors.push(error));
  rounds.start();
  const error = new Error("away");
  for (let round = 1; round <= 3; round++) {
    await vi.advanceTimersByTimeAsync(longestMs);
    expect(work).toHaveBeenCalledTimes(round);
    fail(error);
    await vi.advanceTimersByTimeAsync(0);
    expect(errors).toEqual(Array(round).fill(error));
  }
});

test("close waits for the round under way, and no other one comes after it", async () => {
  const { work, end } = manual();
  const rounds = new Rounds(work, pauseMs, () => {});
  rounds.start();
  await vi.advanceTimersByTimeAsync(longestMs);
  let closed = false;
  const closing = rounds.close().then(() => {
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

test("close between two rounds, or before the first start, ends it at once", async () => {
  const { work } = manual();
  const rounds = new Rounds(work, pauseMs, () => {});
  rounds.start();
  await rounds.close();
  rounds.start();
  await vi.advanceTimersByTimeAsync(10 * longestMs);
  expect(work).toHaveBeenCalledTimes(0);
  expect(vi.getTimerCount()).toBe(0);
});
