import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { within } from "../../src/platform/within.js";

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

test("work that ends in time is the answer, and leaves no timer", async () => {
  expect(await within(Promise.resolve(1), 100, () => 2)).toBe(1);
  await expect(within(Promise.reject(new Error("no")), 100, () => 2)).rejects.toThrow("no");
  expect(vi.getTimerCount()).toBe(0);
});

test("work that takes longer is answered for, and how it ends is nobody's fault", async () => {
  let fail = (_: Error) => {};
  const work = () => new Promise<number>((_, reject) => (fail = reject));
  const returned = within(work(), 100, () => 2);
  await vi.advanceTimersByTimeAsync(100);
  expect(await returned).toBe(2);
  fail(new Error("late"));
  const thrown = within(work(), 100, () => {
    throw new Error("too late");
  });
  const caught = expect(thrown).rejects.toThrow("too late");
  await vi.advanceTimersByTimeAsync(100);
  await caught;
});
