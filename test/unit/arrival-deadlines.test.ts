import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { ArrivalDeadlines } from "../../src/transport/messages/arrival-deadlines.js";

const turn = () => new Promise((resolve) => setImmediate(resolve));

beforeEach(() => {
  vi.useFakeTimers({ toFake: ["setInterval", "clearInterval", "performance"] });
});
afterEach(() => {
  vi.useRealTimers();
});

test("what has not arrived in time is late, once, in the order in which it began", () => {
  const deadlines = new ArrivalDeadlines(10_000, 500);
  const late: string[] = [];
  const begin = (name: string) => deadlines.begin(() => late.push(name));
  begin("first");
  vi.advanceTimersByTime(3_000);
  const second = begin("second");
  begin("third");
  vi.advanceTimersByTime(7_500);
  expect(late).toEqual(["first"]);
  deadlines.end(second);
  vi.advanceTimersByTime(20_000);
  expect(late).toEqual(["first", "third"]);
});

test("nothing is looked at while nothing arrives, and then it begins anew", () => {
  const deadlines = new ArrivalDeadlines(10_000, 500);
  let late = 0;
  deadlines.end(deadlines.begin(() => {}));
  vi.advanceTimersByTime(1_000);
  expect(vi.getTimerCount()).toBe(0);
  deadlines.begin(() => {
    late += 1;
  });
  vi.advanceTimersByTime(10_500);
  expect([late, vi.getTimerCount()]).toEqual([1, 0]);
});

test("many that are late at once are told so over several turns of the event loop", async () => {
  const deadlines = new ArrivalDeadlines(10_000, 500);
  let late = 0;
  for (let count = 0; count < 120; count += 1) {
    deadlines.begin(() => {
      late += 1;
    });
  }
  vi.advanceTimersByTime(10_000);
  expect(late).toBe(50);
  await turn();
  expect(late).toBe(100);
  await turn();
  expect([late, vi.getTimerCount()]).toEqual([120, 0]);
});
