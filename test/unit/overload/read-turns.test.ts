import * as http2 from "node:http2";
import type { AddressInfo, Socket } from "node:net";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { callHeaders, code, flag, frame, frameType, RawConnection, rstStream } from "../../../bench/hostile/frames.js";
import { ReadTurns } from "../../../src/transport/overload/read-turns.js";
import { until } from "../../support/until.js";

const headers = callHeaders("/", "application/grpc");
const ids = (count: number) => Array.from({ length: count }, (_, at) => 1 + 2 * at);
const begun = (count: number) =>
  Buffer.concat(ids(count).map((id) => frame(frameType.headers, flag.endHeaders | flag.endStream, id, headers)));
const given = (count: number) =>
  Buffer.concat(
    ids(count).flatMap((id) => [frame(frameType.headers, flag.endHeaders, id, headers), rstStream(id, code.cancel)]),
  );

let server: http2.Http2Server;
/** Streams of each turn of the event loop, and by which connections they came. */
let turns: http2.ServerHttp2Session[][];
let port: number;
let clients: RawConnection[];
let sockets: Socket[];

beforeEach(async () => {
  const reading = new ReadTurns({ turnBegan: () => {}, turnWasFull: () => {} });
  turns = [];
  clients = [];
  sockets = [];
  let isFirst = true;
  server = http2.createServer({ settings: { maxConcurrentStreams: 2_000 } });
  server.on("connection", (socket: Socket) => sockets.push(socket));
  server.on("session", (session) => {
    reading.opened(session, session.destroy.bind(session));
    session.on("error", () => {});
  });
  server.on("stream", (stream) => {
    stream.on("error", () => {});
    reading.arrived(stream);
    if (isFirst) {
      turns.push([]);
      isFirst = false;
      setImmediate(() => {
        isFirst = true;
      });
    }
    turns.at(-1)?.push(stream.session as http2.ServerHttp2Session);
    if (!stream.closed) stream.respond({ ":status": 200 }, { endStream: true });
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  port = (server.address() as AddressInfo).port;
});
afterEach(async () => {
  for (const client of clients) client.destroy();
  for (const socket of sockets) socket.destroy();
  await new Promise((resolve) => server.close(resolve));
});

async function connect(): Promise<{ client: RawConnection; answers: () => number }> {
  let answers = 0;
  const client = await RawConnection.open(port, ({ type, flags }) => {
    if (type === frameType.headers && (flags & flag.endStream) !== 0) answers += 1;
  });
  clients.push(client);
  return { client, answers: () => answers };
}

describe("what is read in one turn of the event loop", () => {
  test("ends with the connection that brings too much; all are answered", async () => {
    const each = 700;
    const all = [await connect(), await connect(), await connect(), await connect()];
    for (const { client } of all) client.write(begun(each));
    await until("all are answered", () => all.every(({ answers }) => answers() === each));
    for (const turn of turns) {
      // One connection may have brought some before the last one brought the rest.
      if (turn.length > 600) expect(turn.slice(599).every((session) => session === turn.at(-1))).toBe(true);
    }
    expect(turns.length).toBeGreaterThanOrEqual(all.length);
  });

  test("a connection whose streams are reset before they are read is closed, in the middle of a turn", async () => {
    const { client } = await connect();
    const other = await connect();
    client.write(given(900));
    await until("it is closed", () => !client.isOpen);
    expect(turns.length).toBe(1);
    other.client.write(begun(100));
    await until("others are answered", () => other.answers() === 100);
  });

  test("of a connection that was asked to go, and waits for its client to do so, the client's end is heard", async () => {
    const leaving = await connect();
    leaving.client.write(begun(1));
    await until("it is answered", () => leaving.answers() === 1);
    const [[session]] = turns as [[http2.ServerHttp2Session]];
    leaving.client.socket.pause();
    session.close();
    await until("its session has ended", () => session.destroyed);
    const others = [await connect(), await connect()];
    for (const { client } of others) client.write(begun(700));
    await until("the others are answered", () => others.every(({ answers }) => answers() === 700));
    leaving.client.socket.resume();
    const open = () => new Promise<number>((resolve) => server.getConnections((_, count) => resolve(count)));
    await until("only the others' connections are left", async () => (await open()) === others.length, 5_000);
  });
});
