import * as http2 from "node:http2";
import { afterAll, beforeEach, describe, expect, test } from "vitest";
import { EventService } from "../../gen/coupon/v1/event_service_pb.js";
import { Health } from "../../gen/grpc/health/v1/health_pb.js";
import { oneReplica } from "../support/service.js";
import { until } from "../support/until.js";
import { createSample, issued } from "./samples.js";

/** How long the caller of a stream waits, on the HTTP port: as on the gRPC port. */

const { replica } = await oneReplica(afterAll);

const { watchEvents } = EventService.method;
const { watch: watchHealth } = Health.method;
const pathOf = ({ parent, name }: typeof watchEvents | typeof watchHealth) => `/${parent.typeName}/${name}`;

let session: http2.ClientHttp2Session;
beforeEach(() => {
  session = http2.connect(`http://127.0.0.1:${replica.httpPort}`);
  return () => session.destroy();
});

interface Heard {
  text: string;
  status: unknown;
  isOver: boolean;
}

function open(path: string, type: string, headers: Record<string, string>, message = Buffer.alloc(0)): Heard {
  const stream = session.request({ ":method": "POST", ":path": path, "content-type": type, ...headers });
  const heard: Heard = { text: "", status: undefined, isOver: false };
  stream
    .on("data", (chunk: Buffer) => {
      heard.text += chunk.toString("latin1");
    })
    .on("trailers", (trailers) => {
      heard.status = trailers["grpc-status"];
    })
    .on("error", () => {})
    .on("close", () => {
      heard.isOver = true;
    });
  const head = Buffer.alloc(5);
  head.writeUInt32BE(message.length, 1);
  stream.end(Buffer.concat([head, message]));
  return heard;
}

const json = Buffer.from("{}");

describe("a stream of events", () => {
  test("says that the time is over: gRPC", async () => {
    const heard = open(pathOf(watchEvents), "application/grpc", { "grpc-timeout": "200m" });
    await until("it ends", () => heard.isOver);
    expect(heard.status).toBe("4");
  });

  test("says that the time is over: Connect with JSON", async () => {
    const heard = open(pathOf(watchEvents), "application/connect+json", { "connect-timeout-ms": "200" }, json);
    await until("it ends", () => heard.isOver);
    expect(heard.text).toContain('"deadline_exceeded"');
  });

  test.for([
    ["application/grpc", { "grpc-timeout": "99999999H" }, Buffer.alloc(0)],
    ["application/connect+json", { "connect-timeout-ms": "9999999999" }, json],
  ] as const)("goes on when the caller waits for longer than a timer can: %s", async ([type, headers, message]) => {
    const { id } = await createSample(replica.client);
    const heard = open(pathOf(watchEvents), type, headers, message);
    await until("it has begun", () => heard.text !== "");
    await issued(replica.client, id, "somebody");
    await until("the event is there", () => heard.text.includes(id) || heard.isOver);
    expect([heard.text.includes(id), heard.isOver]).toEqual([true, false]);
  });
});

test("who watches health for longer than a timer can goes on, too", async () => {
  const long = open(pathOf(watchHealth), "application/grpc", { "grpc-timeout": "99999999H" });
  await until("it has begun", () => long.text !== "");
  const short = open(pathOf(watchHealth), "application/grpc", { "grpc-timeout": "200m" });
  await until("a shorter one ends", () => short.isOver);
  expect([short.status, long.isOver]).toEqual(["4", false]);
});
