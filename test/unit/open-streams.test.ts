import type { Http2Stream } from "node:http2";
import { expect, onTestFinished, test, vi } from "vitest";
import { OpenStreams } from "../../src/transport/open-streams.js";

test("streams are bounded over all connections, and closed ones do not count", () => {
  const streams = new OpenStreams(3);
  expect([1, 2, 3, 4].map(() => streams.add())).toEqual([true, true, true, false]);
  streams.closed({} as Http2Stream);
  expect([streams.add(), streams.add()]).toEqual([true, false]);
});

test("one that was answered and does not end is closed a second later, but not one that has ended", () => {
  vi.useFakeTimers({ toFake: ["setInterval", "clearInterval", "performance"] });
  onTestFinished(() => void vi.useRealTimers());
  const closed: string[] = [];
  const streams = new OpenStreams();
  const [open, ended] = ["open", "ended"].map((name) => ({ close: () => void closed.push(name) })) as unknown as [
    Http2Stream,
    Http2Stream,
  ];
  for (const stream of [open, ended]) {
    streams.add();
    streams.answered(stream);
  }
  vi.advanceTimersByTime(900);
  streams.closed(ended);
  expect(closed).toEqual([]);
  vi.advanceTimersByTime(600);
  expect(closed).toEqual(["open"]);
});
