import * as http2 from "node:http2";
import * as net from "node:net";
import { afterAll, expect, test } from "vitest";
import { HttpPort } from "../../src/transport/connect/http-port.js";
import type { NodeResponse } from "../../src/transport/connect/node-request.js";
import { ArrivalDeadlines } from "../../src/transport/messages/arrival-deadlines.js";
import { until } from "../support/until.js";

const waiting: NodeResponse[] = [];
const port = new HttpPort((_, response) => void waiting.push(response), new ArrivalDeadlines(), undefined, 100);
const number = await port.listen("127.0.0.1", 0);
afterAll(() => port.close(100));

test("of two idle HTTP/2 connections the one that has a call stays, and the other is closed", async () => {
  const [busy, idle] = [0, 1].map(() => http2.connect(`http://127.0.0.1:${number}`));
  let pings = 0;
  busy?.on("ping", () => {
    pings += 1;
  });
  const stream = busy?.request({ ":path": "/" });
  let isOver = false;
  stream
    ?.on("error", () => {})
    .on("close", () => {
      isOver = true;
    });
  await until("the idle one is closed", () => idle?.closed);
  await until("the other was asked for signs of life, more than once", () => pings >= 2 || isOver);
  expect([busy?.closed, isOver]).toEqual([false, false]);
  let text = "";
  stream?.on("data", (chunk) => {
    text += chunk;
  });
  waiting[0]?.end("at last");
  await until("the call is answered", () => isOver);
  expect(text).toBe("at last");
  await until("then it is closed, too", () => busy?.closed);
});

test("what has come while a port that is being closed was held up is answered, and its connection is not reset", async () => {
  const closing = new HttpPort((_, response) => void response.end("served"), new ArrivalDeadlines(), undefined);
  const socket = net.connect(await closing.listen("127.0.0.1", 0), "127.0.0.1").on("error", () => {});
  let heard = "";
  socket.on("data", (chunk) => {
    heard += chunk;
  });
  const ask = () => socket.write("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n");
  const answers = () => heard.split("served").length - 1;
  ask();
  await until("it is answered", () => answers() === 1);
  // After this come timers, and only then what has come is read.
  await new Promise((resolve) => setImmediate(resolve));
  const closed = closing.close(10_000);
  ask();
  // For longer than an idle connection is left open then.
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 1_500);
  await closed;
  await until("the connection has ended", () => socket.closed);
  expect([answers(), heard.toLowerCase().includes("connection: close")]).toEqual([2, true]);
});
