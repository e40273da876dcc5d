import { EventEmitter } from "node:events";
import type { Http2Stream } from "node:http2";
import { expect, onTestFinished, test, vi } from "vitest";
import { OpenStreams } from "../../src/transport/open-streams.js";

test("streams are bounded over all connections, and closed ones do not count", () => {
  const streams = new OpenStreams(3);
  const all = Array.from({ length: 4 }, () => new EventEmitter() as unknown as Http2Stream);
  expect(all.map((stream) => streams.add(stream))).toEqual([true, true, true, false]);
  all[0]?.emit("close");
  expect([streams.add(all[3] as Http2Stream), streams.add(all[0] as Http2Stream)]).toEqual([true, false]);
});

test("one that was answered and does not end is closed a second later, but not one that has ended", () => {
  vi.useFakeTimers({ toFake: ["setInterval", "clearInterval", "performance"] });
  onTestFinished(() => void vi.useRealTimers());
  const closed: string[] = [];
  const streams = new OpenStreams();
  const [open, ended] = ["open", "ended"].map((name) =>
    Object.assign(new EventEmitter(), { close: () => void closed.push(name) }),
  ) as unknown as [Http2Stream, Http2Stream];
  for (const stream of [open, ended]) {
    streams.add(stream);
    streams.answered(stream);
  }
  vi.advanceTimersByTime(900);
  ended.emit("close");
  expect(closed).toEqual([]);
  vi.advanceTimersByTime(600);
  expect(closed).toEqual(["open"]);
});
