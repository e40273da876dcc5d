import * as http2 from "node:http2";
import * as net from "node:net";
import { create, toBinary } from "@bufbuild/protobuf";
import { afterAll, describe, expect, test } from "vitest";
import { IssuanceService, IssueCouponRequestSchema } from "../../gen/coupon/v1/issuance_service_pb.js";
import { oneReplica } from "../support/service.js";
import { until } from "../support/until.js";
import { envelope, pathOf } from "./front-ends.js";

const path = pathOf(IssuanceService.method.issueCoupon);

const { replica } = await oneReplica(afterAll);

/** A connection by hand to the HTTP port, and what is heard on it. */
function dial() {
  const socket = net.connect(replica.httpPort, "127.0.0.1");
  socket.setNoDelay(true);
  const dialled = { socket, heard: Buffer.alloc(0) as Buffer, isClosed: false };
  socket.on("data", (chunk) => {
    dialled.heard = Buffer.concat([dialled.heard, chunk]);
  });
  socket.on("error", () => {});
  socket.on("close", () => {
    dialled.isClosed = true;
  });
  return dialled;
}

/** Whatever the replica had been sent before, it has read when this is answered. */
async function roundTrip(): Promise<void> {
  expect((await fetch(`http://127.0.0.1:${replica.httpPort}/healthz`)).status).toBe(200);
}

describe("requests that are none", () => {
  test.for([
    [
      "a host that is none",
      `POST ${path} HTTP/1.1\r\nHost: [\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}`,
    ],
    [
      "a port that is none",
      `POST ${path} HTTP/1.1\r\nHost: a:b\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}`,
    ],
    [
      "an empty host",
      `POST ${path} HTTP/1.1\r\nHost:\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}`,
    ],
    ["no host", `POST ${path} HTTP/1.1\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}`],
    [
      "no host, which HTTP/1.0 allows",
      `POST ${path} HTTP/1.0\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}`,
    ],
    ["a text that is no HTTP", "Hello\r\n\r\n"],
    ["what begins like HTTP/2", "PRX * HTTP/2.0\r\n\r\n"],
  ] as const)("%s gets a 400", async ([, request]) => {
    const dialled = dial();
    dialled.socket.write(request);
    await until("it is answered", () => dialled.heard.toString().startsWith("HTTP/1.1 400"));
    dialled.socket.destroy();
  });

  test("say in the body what is wrong, and leave no stack trace in the log", async () => {
    const dialled = dial();
    dialled.socket.write(`GET ${path} HTTP/1.1\r\nHost: [\r\n\r\n`);
    await until("it is answered", () => dialled.heard.toString().includes("the host or the path is none"));
    dialled.socket.destroy();
    expect(replica.log()).not.toContain("Invalid URL");
  });
});

describe("HTTP/2 with prior knowledge", () => {
  const preface = Buffer.from("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
  const settings = Buffer.from([0, 0, 0, 4, 0, 0, 0, 0, 0]);

  test.for([[[1]], [[3]], [[2, 16, 20]], [[23]], [[24]]] as const)("a preface cut at %j", async ([cuts]) => {
    const dialled = dial();
    let from = 0;
    for (const to of [...cuts, preface.length]) {
      dialled.socket.write(preface.subarray(from, to));
      from = to;
      await roundTrip();
    }
    dialled.socket.write(settings);
    // The server's own SETTINGS.
    await until("it is answered", () => dialled.heard.length >= 9 && dialled.heard[3] === 4);
    dialled.socket.destroy();
  });

  test("HTTP/1.1 that begins with the same letter", async () => {
    const dialled = dial();
    dialled.socket.write("P");
    await roundTrip();
    dialled.socket.write(`UT /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n`);
    await until("it is answered", () => dialled.heard.toString().startsWith("HTTP/1.1 200"));
    dialled.socket.destroy();
  });
});

describe("a message that does not arrive", () => {
  const message = toBinary(IssueCouponRequestSchema, create(IssueCouponRequestSchema, { userId: "u" }));
  const begun = envelope(message).subarray(0, 7);

  async function grpcStatus(port: number): Promise<string> {
    const session = http2.connect(`http://127.0.0.1:${port}`);
    const headers = { ":method": "POST", ":path": path, te: "trailers", "content-type": "application/grpc" };
    const stream = session.request(headers);
    const heard: http2.IncomingHttpHeaders[] = [];
    stream.on("response", (one) => heard.push(one));
    stream.on("trailers", (one) => heard.push(one));
    stream.on("error", () => {});
    stream.resume();
    stream.write(begun);
    await new Promise((resolve) => stream.once("close", resolve));
    session.destroy();
    return String(heard.map((one) => one["grpc-status"]).find((status) => status !== undefined));
  }

  async function http1Status(): Promise<string> {
    const dialled = dial();
    const head = `POST ${path} HTTP/1.1\r\nHost: localhost\r\ncontent-type: application/json\r\ncontent-length: 99\r\n\r\n{`;
    dialled.socket.write(head);
    await until("it is cut off", () => dialled.isClosed, 20_000);
    return dialled.heard.toString().split(" ", 2)[1] ?? "";
  }

  async function silence(): Promise<string> {
    const dialled = dial();
    dialled.socket.write("PRI");
    await until("it is cut off", () => dialled.isClosed, 20_000);
    return dialled.heard.toString();
  }

  test("is answered with DEADLINE_EXCEEDED, and its connection or stream is closed", { timeout: 30_000 }, async () => {
    expect(
      await Promise.all([grpcStatus(replica.grpcPort), grpcStatus(replica.httpPort), http1Status(), silence()]),
    ).toEqual(["4", "4", "504", ""]);
    await roundTrip();
  });
});
