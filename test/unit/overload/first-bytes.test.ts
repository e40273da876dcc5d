import * as http2 from "node:http2";
import type { AddressInfo } from "node:net";
import { afterEach, beforeEach, expect, test } from "vitest";
import { callHeaders, code, flag, frame, frameType, RawConnection, rstStream } from "../../../bench/hostile/frames.js";
import { FirstBytes } from "../../../src/transport/overload/first-bytes.js";
import { until } from "../../support/until.js";

let server: http2.Http2Server;
let client: http2.ClientHttp2Session;
let begun: string[];
let arrived: number;
let closed: number;
const port = () => (server.address() as AddressInfo).port;

beforeEach(async () => {
  const firstBytes = new FirstBytes();
  begun = [];
  arrived = 0;
  closed = 0;
  server = http2.createServer();
  server.on("stream", (stream, headers) => {
    stream.on("error", () => {});
    arrived += 1;
    stream.on("close", () => {
      closed += 1;
    });
    firstBytes.await(stream, () => {
      begun.push(headers[":path"] as string);
      // As grpc-js reads it.
      let body = "";
      stream.on("data", (chunk) => {
        body += chunk;
      });
      stream.on("end", () => {
        stream.respond({ ":status": 200 });
        stream.end(body);
      });
    });
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  client = http2.connect(`http://127.0.0.1:${port()}`);
});
afterEach(async () => {
  client.destroy();
  await new Promise((resolve) => server.close(resolve));
});

function open(path: string): { stream: http2.ClientHttp2Stream; answer: Promise<string> } {
  const stream = client.request({ ":method": "POST", ":path": path }, { endStream: false });
  stream.on("error", () => {});
  const answer = new Promise<string>((resolve) => {
    let body = "";
    stream.on("data", (chunk) => {
      body += chunk;
    });
    stream.on("close", () => resolve(body));
  });
  return { stream, answer };
}

test("nothing is made of a stream until its message begins, and then nothing of it is missing", async () => {
  const slow = open("/slow");
  const whole = open("/whole");
  whole.stream.end("all at once");
  expect(await whole.answer).toBe("all at once");
  expect(begun).toEqual(["/whole"]);
  slow.stream.write("some now");
  await until("it has begun", () => begun.length === 2);
  slow.stream.end(", more later");
  expect(await slow.answer).toBe("some now, more later");
});

test("a message without bytes has begun when it ends, with the headers or after them", async () => {
  client.request({ ":method": "GET", ":path": "/get" });
  await until("it has begun", () => begun.length === 1);
  const later = open("/later");
  await until("both have come", () => arrived === 2);
  expect(begun).toEqual(["/get"]);
  later.stream.end();
  await until("it has begun, too", () => begun.length === 2);
});

test("a stream that is given up is forgotten", async () => {
  const raw = await RawConnection.open(port(), () => {});
  const headers = frame(frameType.headers, flag.endHeaders, 1, callHeaders("/given", "application/grpc"));
  raw.write(headers);
  await until("it has come", () => arrived === 1);
  raw.write(rstStream(1, code.cancel));
  await until("it is closed", () => closed === 1);
  const next = open("/next");
  next.stream.end("x");
  expect(await next.answer).toBe("x");
  expect(begun).toEqual(["/next"]);
  raw.destroy();
});
