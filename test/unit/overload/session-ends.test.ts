import * as http2 from "node:http2";
import type { AddressInfo, Socket } from "node:net";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { callHeaders, flag, frame, frameType, RawConnection } from "../../../bench/hostile/frames.js";
import { SessionEnds } from "../../../src/transport/overload/session-ends.js";
import { until } from "../../support/until.js";

const headers = callHeaders("/", "application/grpc");
const begun = (count: number) =>
  Buffer.concat(
    Array.from({ length: count }, (_, at) => frame(frameType.headers, flag.endHeaders, 1 + 2 * at, headers)),
  );

interface Opened {
  readonly session: http2.ServerHttp2Session;
  readonly socket: Socket;
  readonly streams: Set<http2.ServerHttp2Stream>;
  wasStopped: boolean;
}

let server: http2.Http2Server;
let opened: Opened[];
let sockets: Socket[];
let clients: RawConnection[];
/** How many streams have ended in each turn of the event loop. */
let turns: number[];

function ended(streams: Set<http2.ServerHttp2Stream>, stream: http2.ServerHttp2Stream): void {
  streams.delete(stream);
  if (turns.at(-1) === 0) setImmediate(() => turns.push(0));
  turns[turns.length - 1] = (turns.at(-1) ?? 0) + 1;
}

beforeEach(async () => {
  [opened, sockets, clients, turns] = [[], [], [], [0]];
  const ends = new SessionEnds();
  server = http2.createServer({ settings: { maxConcurrentStreams: 500 } });
  server.prependListener("connection", (socket: Socket) => sockets.push(socket));
  server.on("session", (session) => {
    session.on("error", () => {});
    const one: Opened = { session, socket: sockets.at(-1) as Socket, streams: new Set(), wasStopped: false };
    opened.push(one);
    ends.opened(session, {
      openStreams: () => one.streams.size,
      stopReading: () => {
        one.wasStopped = true;
      },
    });
    session.on("stream", (stream: http2.ServerHttp2Stream) => {
      one.streams.add(stream);
      stream.on("error", () => {});
      stream.once("close", () => ended(one.streams, stream));
    });
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
});
afterEach(async () => {
  for (const client of clients) client.destroy();
  for (const socket of sockets) socket.destroy();
  await new Promise((resolve) => server.close(resolve));
});

async function open(streams: number): Promise<Opened> {
  const client = await RawConnection.open((server.address() as AddressInfo).port);
  clients.push(client);
  client.write(begun(streams));
  const one = opened.at(-1) as Opened;
  await until("its streams are open", () => one.streams.size === streams);
  return one;
}

const ways: [string, (one: Opened) => void][] = [
  ["their connections are closed", ({ socket }) => socket.destroy()],
  ["they are ended", ({ session }) => session.destroy()],
  ["they are ended, for something is wrong", ({ session }) => session.destroy(new Error("too many"), 11)],
  ["they are ended, and their connections are closed", ({ session, socket }) => [session.destroy(), socket.destroy()]],
];

describe.each(ways)("sessions whose streams are many, when in one turn %s", (_, end) => {
  test("end one after the other", async () => {
    const all = [await open(60), await open(60), await open(150), await open(60), await open(60)];
    for (const one of all) end(one);
    await until("all have ended", () => all.every(({ session, streams }) => session.destroyed && streams.size === 0));
    // Those that are closed at once are not closed in the order in which they were opened.
    const counts = turns.filter((count) => count > 0).sort((a, b) => a - b);
    expect(counts).toEqual([60, 60, 60, 60, 150]);
    expect(all.filter(({ wasStopped }) => wasStopped).length).toBe(all.length - 1);
  });

  test("those that have no stream do not wait for them", async () => {
    const all = [await open(150), await open(60)];
    const none = await open(0);
    for (const one of all) end(one);
    end(none);
    await until("it has ended", () => none.session.destroyed);
    expect(none.wasStopped).toBe(false);
    await until("all have ended", () => all.every(({ session, streams }) => session.destroyed && streams.size === 0));
  });

  test("a stream that is answered meanwhile does no harm", async () => {
    const all = [await open(60), await open(60)];
    for (const one of all) end(one);
    const [stream] = all[1]?.streams ?? [];
    for (const { socket } of all) await until("it is closed", () => socket.closed);
    if (!stream?.destroyed) {
      stream?.respond({ ":status": 200 });
      stream?.end("late");
    }
    await until("all have ended", () => all.every(({ session, streams }) => session.destroyed && streams.size === 0));
  });
});

test("a session that has ended by itself is not asked twice", async () => {
  const one = await open(3);
  one.session.destroy();
  one.session.destroy();
  await until("it has ended", () => one.streams.size === 0 && one.socket.closed);
  expect(turns.filter((count) => count > 0)).toEqual([3]);
});

test("Node still has the listener that is taken over", async () => {
  const plain = http2.createServer();
  const names = new Promise<string[]>((resolve) =>
    plain.on("session", ({ socket }) => resolve(socket.listeners("close").map(({ name }) => name))),
  );
  await new Promise<void>((resolve) => plain.listen(0, "127.0.0.1", resolve));
  clients.push(await RawConnection.open((plain.address() as AddressInfo).port));
  expect(await names).toContain("socketOnClose");
  const { socket } = await open(1);
  expect(socket.listeners("close").map(({ name }) => name)).not.toContain("socketOnClose");
  for (const client of clients) client.destroy();
  await new Promise((resolve) => plain.close(resolve));
});
