import { EventEmitter } from "node:events";
import type { Http2Stream } from "node:http2";
import { expect, test } from "vitest";
import { OpenStreams } from "../../src/transport/open-streams.js";

test("streams are bounded over all connections, and closed ones do not count", () => {
  const streams = new OpenStreams(3);
  const all = Array.from({ length: 4 }, () => new EventEmitter() as unknown as Http2Stream);
  expect(all.map((stream) => streams.add(stream))).toEqual([true, true, true, false]);
  all[0]?.emit("close");
  expect([streams.add(all[3] as Http2Stream), streams.add(all[0] as Http2Stream)]).toEqual([true, false]);
});
