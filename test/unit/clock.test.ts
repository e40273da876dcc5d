import { beforeEach, describe, expect, onTestFinished, test, vi } from "vitest";
import { MeasuredClock, steadyMs } from "../../src/platform/clock.js";
import { newId, timeOf } from "../../src/platform/new-id.js";

const hourMs = 3_600_000;

/** What the other clock really is ahead, and how long a question is on its way there, and its answer back. */
interface Answer {
  readonly aheadMs: number;
  readonly thereMs?: number;
  readonly backMs?: number;
}

let nowMs: number;
beforeEach(() => {
  nowMs = Math.floor(steadyMs());
});

function answered(clock: MeasuredClock, { aheadMs, thereMs = 0.3, backMs = 0.3 }: Answer): void {
  const sentMs = nowMs;
  const theirMs = Math.floor(sentMs + thereMs + aheadMs);
  nowMs = sentMs + thereMs + backMs;
  clock.note(sentMs, theirMs, nowMs);
  nowMs += 1_000;
}

/** How far the clock says that the other one is ahead. Asked again when this process was held up between the two. */
function offsetOf(clock: MeasuredClock): number {
  for (;;) {
    const askedMs = steadyMs();
    const saidMs = clock.nowMs();
    if (steadyMs() - askedMs < 1) return saidMs - askedMs;
  }
}

test("before it has measured anything it is this machine's clock", () => {
  expect(Math.abs(new MeasuredClock().nowMs() - Date.now())).toBeLessThan(1_000);
});

describe.each([2 * hourMs, -2 * hourMs, 0])("the other clock is %i ms ahead", (aheadMs) => {
  test("the first answer is enough, as exactly as it was quick", () => {
    const clock = new MeasuredClock();
    answered(clock, { aheadMs, thereMs: 20, backMs: 20 });
    expect(Math.abs(offsetOf(clock) - aheadMs)).toBeLessThan(23);
  });

  test("a quick answer makes it exact, and slow ones after that change nothing", () => {
    const clock = new MeasuredClock();
    answered(clock, { aheadMs, thereMs: 40, backMs: 1 });
    answered(clock, { aheadMs });
    expect(Math.abs(offsetOf(clock) - aheadMs)).toBeLessThan(3);
    const before = clock.aheadMs;
    for (const [thereMs, backMs] of [
      [900, 1],
      [1, 900],
      [30_000, 0],
    ] as const)
      answered(clock, { aheadMs, thereMs, backMs });
    expect(Math.abs(clock.aheadMs - before)).toBeLessThan(1);
  });

  test("quick answers that differ by their way do not move it", () => {
    const clock = new MeasuredClock();
    answered(clock, { aheadMs });
    const before = clock.aheadMs;
    for (let n = 0; n < 100; n++) answered(clock, { aheadMs, thereMs: 0.1 + (n % 7), backMs: 0.1 + (n % 5) });
    expect(Math.abs(clock.aheadMs - before)).toBeLessThan(2);
  });

  test("it follows when the other clock is set, or is another one", () => {
    const clock = new MeasuredClock();
    for (let n = 0; n < 10; n++) answered(clock, { aheadMs });
    answered(clock, { aheadMs: aheadMs - 7_000, thereMs: 5, backMs: 5 });
    expect(Math.abs(offsetOf(clock) - aheadMs + 7_000)).toBeLessThan(8);
  });

  test("it follows a clock that goes too fast", () => {
    const clock = new MeasuredClock();
    for (let n = 0; n < 1_000; n++) answered(clock, { aheadMs: aheadMs + n * 0.5 });
    expect(Math.abs(offsetOf(clock) - aheadMs - 500)).toBeLessThan(4);
  });
});

test("what is asked just before the next millisecond of the other clock is not of that millisecond", () => {
  const atMs = vi.spyOn(performance, "now");
  onTestFinished(() => void atMs.mockRestore());
  const ask = (clock: MeasuredClock, aheadMs: number, thereMs: number) => {
    // It gets there before the millisecond has begun.
    const nextMs = Math.ceil(nowMs + aheadMs + thereMs) + 1;
    atMs.mockReturnValue(nextMs - aheadMs - thereMs - 0.02 - performance.timeOrigin);
    expect(clock.nowMs()).toBeLessThan(nextMs);
  };
  for (let n = 0; n < 1_000; n++) {
    const clock = new MeasuredClock();
    nowMs += n * 0.371;
    // The first one is slow on its way, as it is when a process begins.
    answered(clock, { aheadMs: 0, thereMs: 0.1 + (n % 9), backMs: 0.1 + (n % 2) });
    ask(clock, 0, 0.1);
  }
  const clock = new MeasuredClock();
  for (let aheadMs = 0; aheadMs > -50; aheadMs -= 0.05) {
    answered(clock, { aheadMs });
    nowMs -= 1_000;
    ask(clock, aheadMs, 0.3);
    nowMs += 1_000.173;
  }
});

test("it says once that this machine's clock is wrong, and once that it is right again", () => {
  const said: [boolean, number][] = [];
  const clock = new MeasuredClock({ onChange: (isWrong, aheadMs) => said.push([isWrong, Math.round(aheadMs / 100)]) });
  for (const aheadMs of [0, 900, -900, -5_000, -5_000, -900, -700, -300, -900]) answered(clock, { aheadMs });
  expect(said).toEqual([
    [true, 50],
    [false, 3],
  ]);
});

test("what is done to this machine's clock changes neither times nor deadlines", () => {
  const clock = new MeasuredClock();
  answered(clock, { aheadMs: 0 });
  const before = [clock.nowMs(), steadyMs()];
  vi.useFakeTimers({ toFake: ["Date"], now: Date.now() + 2 * hourMs });
  const after = [clock.nowMs(), steadyMs()];
  const { aheadMs } = clock;
  vi.useRealTimers();
  for (const index of [0, 1]) expect(after[index]! - before[index]!).toBeLessThan(hourMs);
  expect(aheadMs).toBeGreaterThan(hourMs);
});

test("an id is of the time that it is given, and in the order of it", () => {
  const times = Array.from({ length: 600 }, (_, n) => 1_700_000_000_000 + n * n);
  const ids = times.map(newId);
  expect(ids.map(timeOf)).toEqual(times);
  expect([...ids].sort()).toEqual(ids);
});
