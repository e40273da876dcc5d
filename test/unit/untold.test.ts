import * as http2 from "node:http2";
import { afterAll, beforeEach, describe, expect, test } from "vitest";
import { CatalogService } from "../../gen/coupon/v1/catalog_service_pb.js";
import { EventService } from "../../gen/coupon/v1/event_service_pb.js";
import { Code, Failure } from "../../src/transport/error-table.js";
import { GrpcServer } from "../../src/transport/grpc/grpc-server.js";
import { maxConnections } from "../../src/transport/http2-limits.js";
import { ArrivalDeadlines } from "../../src/transport/messages/arrival-deadlines.js";
import { LargeMessages } from "../../src/transport/messages/large-messages.js";
import { LoadShedder } from "../../src/transport/overload/load-shedder.js";
import type { IncomingCall, Invoke } from "../../src/transport/pipeline.js";
import { routeOf, type ServedMethod } from "../../src/transport/routes.js";

/** What becomes of the next call. */
let outcome: () => Promise<unknown>;
const invoke = (async (call: IncomingCall) => {
  call.requestId = "one";
  call.permit.end(false);
  return await outcome();
}) as Invoke;
const thrown: unknown[] = [];
const unary = CatalogService.method.listCoupons;
const streaming = EventService.method.watchEvents;
const isServing = () => true;
const metrics = { shedCall() {}, refusedCall() {}, shedConnections() {}, watchOverload() {} };
const loadShedder = new LoadShedder({ maxAtWork: 100, maxConnections, isServing, metrics, log: { warn() {} } });
const routes = [unary, streaming].map((method) => routeOf(method, invoke));
const server = new GrpcServer(routes, new LargeMessages(), new ArrivalDeadlines(), loadShedder, (error) =>
  thrown.push(error),
);
const port = await server.listen("127.0.0.1", 0);
afterAll(async () => {
  await server.close(100);
  loadShedder.close();
});
beforeEach(() => {
  thrown.length = 0;
});

/** The status that a call ends with; undefined: it was reset. */
async function statusOf(method: ServedMethod): Promise<unknown> {
  const session = http2.connect(`http://127.0.0.1:${port}`);
  const stream = session.request({
    ":method": "POST",
    ":path": `/${method.parent.typeName}/${method.name}`,
    "content-type": "application/grpc",
    te: "trailers",
  });
  let status: unknown;
  const hear = (headers: http2.IncomingHttpHeaders) => {
    status ??= headers["grpc-status"];
  };
  stream
    .on("response", hear)
    .on("trailers", hear)
    .on("error", () => {})
    .resume();
  stream.end(Buffer.alloc(5));
  await new Promise((resolve) => stream.once("close", resolve));
  session.destroy();
  return status;
}

const failure = (message: string, status: unknown = Buffer.alloc(0)) =>
  new Failure("INVALID_FIELD", Code.invalidArgument, message, [], status as Buffer, undefined);

describe.for([unary, streaming])("a caller of $name that cannot be told how its call went", (method) => {
  test.for([
    ["half of a character", async () => failure("\ud83d")],
    ["details that are no bytes", async () => failure("well", "no bytes")],
    ["what was thrown by whoever made the answer", () => Promise.reject(new Error("a fault"))],
  ] as [string, () => Promise<unknown>][])("is told of a fault: %s", { timeout: 20_000 }, async ([, made]) => {
    outcome = made;
    expect(await statusOf(method)).toBe(String(Code.internal));
    expect(thrown).toHaveLength(1);
  });
});

test("a caller that can be told is told, of each kind of method", async () => {
  outcome = async () => failure("as it is");
  expect([await statusOf(unary), await statusOf(streaming)]).toEqual(["3", "3"]);
  expect(thrown).toEqual([]);
});
