import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { assess, type Health, Probe, type ProbeOutcome } from "../../src/platform/probe.js";

const cases: [string, Health, ProbeOutcome, number, Health][] = [
  ["an answer", { up: true, failures: 0 }, "ANSWERED", 0, { up: true, failures: 0 }],
  ["an answer after failures", { up: true, failures: 2 }, "ANSWERED", 9_000, { up: true, failures: 0 }],
  ["one failure", { up: true, failures: 0 }, "FAILED", 9_000, { up: true, failures: 1 }],
  ["a second failure", { up: true, failures: 1 }, "FAILED", 9_000, { up: true, failures: 2 }],
  ["a third failure in a row", { up: true, failures: 2 }, "FAILED", 9_000, { up: false, failures: 3 }],
  [
    "a third failure, and an answer a second ago",
    { up: true, failures: 2 },
    "FAILED",
    1_000,
    { up: false, failures: 3 },
  ],
  ["a third failure, and a fresh answer", { up: true, failures: 2 }, "FAILED", 999, { up: true, failures: 3 }],
  ["a fourth, and no fresh answer any more", { up: true, failures: 3 }, "FAILED", 1_250, { up: false, failures: 4 }],
  ["a refusal", { up: true, failures: 0 }, "REFUSED", 9_000, { up: false, failures: 1 }],
  ["a refusal, and an answer just now", { up: true, failures: 0 }, "REFUSED", 99, { up: true, failures: 1 }],
  ["a refusal, and an answer from before", { up: true, failures: 0 }, "REFUSED", 100, { up: false, failures: 1 }],
  ["nothing known yet, and a refusal", { up: true, failures: 0 }, "REFUSED", Infinity, { up: false, failures: 1 }],
  ["a failure while it is away", { up: false, failures: 5 }, "FAILED", 9_000, { up: false, failures: 6 }],
  ["a fresh answer to others while it is away", { up: false, failures: 5 }, "FAILED", 10, { up: false, failures: 6 }],
  ["an answer while it is away", { up: false, failures: 9 }, "ANSWERED", 9_000, { up: true, failures: 0 }],
];
test.for(cases)("%s", ([, before, outcome, sinceAnswerMs, after]) => {
  expect(assess(before, outcome, sinceAnswerMs)).toEqual(after);
});

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

function start(answer: (signal: AbortSignal) => Promise<unknown>, lastAnswerMs = () => Number.NEGATIVE_INFINITY) {
  const changes: boolean[] = [];
  const failures: ProbeOutcome[] = [];
  const probe = new Probe({
    probe: answer,
    isRefusal: (error) => (error as Error).message === "refused",
    lastAnswerMs,
    onChange: (up) => void changes.push(up),
    onFailure: (failure) => void failures.push(failure),
  });
  probe.start();
  return { probe, changes, failures };
}

const silent = () => new Promise<never>(() => {});

test("silence: away after three probes, each of which is given up, and back with the first answer", async () => {
  const signals: AbortSignal[] = [];
  let answers = false;
  const { probe, changes, failures } = start((signal) => {
    signals.push(signal);
    return answers ? Promise.resolve() : silent();
  });
  expect(probe.up).toBe(true);
  // A pause, two probes and the pauses between them.
  await vi.advanceTimersByTimeAsync(1_000 + 2 * 1_100);
  expect([probe.up, failures.length]).toEqual([true, 2]);
  await vi.advanceTimersByTimeAsync(1_000);
  expect([probe.up, changes]).toEqual([false, [false]]);
  expect(signals.map(({ aborted }) => aborted)).toEqual([true, true, true]);
  answers = true;
  await vi.advanceTimersByTimeAsync(100);
  expect([probe.up, changes]).toEqual([true, [false, true]]);
  probe.close();
});

test("refused: away at once", async () => {
  const { probe, changes } = start(() => Promise.reject(new Error("refused")));
  await vi.advanceTimersByTimeAsync(1_000);
  expect([probe.up, changes]).toEqual([false, [false]]);
  probe.close();
});

test("as long as somebody has answers, it is not away; soon after the last one it is", async () => {
  let lastAnswerMs = performance.now();
  const { probe } = start(
    () => Promise.reject(new Error("an error")),
    () => lastAnswerMs,
  );
  for (let n = 0; n < 20; n++) {
    await vi.advanceTimersByTimeAsync(500);
    expect(probe.up).toBe(true);
    lastAnswerMs = performance.now();
  }
  await vi.advanceTimersByTimeAsync(1_100);
  expect(probe.up).toBe(false);
  probe.close();
});

test("patience is counted in turns: an event loop that is held for seconds takes one of them", async () => {
  const answers: (() => void)[] = [];
  const { probe, failures } = start(() => new Promise<void>((resolve) => void answers.push(resolve)));
  await vi.advanceTimersByTimeAsync(1_000);
  for (let turn = 1; turn < 20; turn++) {
    // Held for ten seconds, and then what is due runs once.
    vi.setSystemTime(Date.now() + 10_000);
    await vi.advanceTimersByTimeAsync(50);
  }
  expect(failures).toEqual([]);
  answers[0]?.();
  await vi.advanceTimersByTimeAsync(1_000 + 19 * 50);
  expect([probe.up, failures]).toEqual([true, []]);
  await vi.advanceTimersByTimeAsync(50);
  expect(failures).toEqual(["FAILED"]);
  probe.close();
});

test("closed, it says nothing any more", async () => {
  const { probe, changes } = start(() => Promise.reject(new Error("refused")));
  probe.close();
  await vi.advanceTimersByTimeAsync(10_000);
  expect(changes).toEqual([]);
});
