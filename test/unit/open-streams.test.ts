import type { Http2Stream } from "node:http2";
import { describe, expect, onTestFinished, test, vi } from "vitest";
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

describe("a stream that stays open", () => {
  const watched = (state: { writableEnded: boolean; closed: boolean; writableLength?: number }) => {
    vi.useFakeTimers({ toFake: ["setInterval", "clearInterval", "performance"] });
    onTestFinished(() => void vi.useRealTimers());
    const ends: string[] = [];
    const stream = {
      ...state,
      close: (code: number) => ends.push(`reset ${code}`),
      destroy: () => ends.push("destroyed"),
    };
    const forget = new OpenStreams().watch(stream as unknown as Http2Stream);
    return { stream, ends, forget };
  };
  const minute = 60_000;

  test("is reset when its answer is not taken for a while", () => {
    const { ends } = watched({ writableEnded: true, closed: false });
    vi.advanceTimersByTime(minute / 2);
    expect(ends).toEqual([]);
    vi.advanceTimersByTime(minute);
    expect(ends).toEqual(["reset 8"]);
  });

  test("is reset when it waits to be ended until its answer is taken", () => {
    const { ends } = watched({ writableEnded: false, closed: false, writableLength: 5 });
    vi.advanceTimersByTime(2 * minute);
    expect(ends).toEqual(["reset 8"]);
  });

  test("is destroyed when it waits to be closed until all is sent", () => {
    const { ends } = watched({ writableEnded: true, closed: true });
    vi.advanceTimersByTime(2 * minute);
    expect(ends).toEqual(["destroyed"]);
  });

  test("is left alone while it is not answered, for however long, and its answer has as much time then", () => {
    const { stream, ends } = watched({ writableEnded: false, closed: false });
    vi.advanceTimersByTime(10 * minute);
    stream.writableEnded = true;
    vi.advanceTimersByTime(minute / 2);
    expect(ends).toEqual([]);
    vi.advanceTimersByTime(minute);
    expect(ends).toEqual(["reset 8"]);
  });

  test("is forgotten when it is closed, however long it was open", () => {
    const { ends, forget } = watched({ writableEnded: true, closed: false });
    vi.advanceTimersByTime(minute / 2 + 6_000);
    forget();
    vi.advanceTimersByTime(10 * minute);
    expect(ends).toEqual([]);
  });
});
