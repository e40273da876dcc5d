import * as http from "node:http";
import * as http2 from "node:http2";
import { create } from "@bufbuild/protobuf";
import { afterAll, expect, test } from "vitest";
import { CatalogService, ListCouponsResponseSchema } from "../../gen/coupon/v1/catalog_service_pb.js";
import { steadyMs } from "../../src/platform/clock.js";
import { ConnectServer } from "../../src/transport/connect/connect-server.js";
import { GrpcServer } from "../../src/transport/grpc/grpc-server.js";
import { ArrivalDeadlines } from "../../src/transport/messages/arrival-deadlines.js";
import { LargeMessages } from "../../src/transport/messages/large-messages.js";
import type { ArrivingCall, LoadShedder } from "../../src/transport/overload/load-shedder.js";
import { routeOf } from "../../src/transport/routes.js";
import { until } from "../support/until.js";

const timeoutMs = 20_000;
const permit = { begin: () => true, end: () => {}, yield: <T>(wait: () => Promise<T>) => wait() };

/** When the caller of the last call waits no longer, as the pipeline hears it. */
let deadlineMs = Number.NaN;
/** When the last call was told to wait. */
let waitedFromMs = Number.NaN;

const method = CatalogService.method.listCoupons;
const path = `/${method.parent.typeName}/${method.name}`;
const route = routeOf(method, async (call, send) => {
  deadlineMs = call.deadlineMs;
  return await send(create(ListCouponsResponseSchema) as never);
});
/** Every call waits for its permit until some time has gone by. */
const loadShedder = {
  admitOrShed(_connection: unknown, call: ArrivingCall) {
    waitedFromMs = steadyMs();
    void until("a ms later", () => steadyMs() > waitedFromMs + 1).then(() => call.admit(permit));
  },
  opened() {},
  closed() {},
  turnBegan() {},
  turnWasFull() {},
  limitConnections() {},
} as unknown as LoadShedder;
const rest = [new LargeMessages(), new ArrivalDeadlines()] as const;
const grpcServer = new GrpcServer([route], ...rest, loadShedder, () => {});
const connectServer = new ConnectServer(
  [route],
  ...rest,
  () => false,
  loadShedder,
  () => {},
);
const grpcPort = await grpcServer.listen("127.0.0.1", 0);
const httpPort = await connectServer.listen("127.0.0.1", 0);
afterAll(() => Promise.all([grpcServer.close(100), connectServer.close(100)]));

type Call = readonly [name: string, port: number, path: string, headers: http.OutgoingHttpHeaders, body: Buffer];

const json = { "content-type": "application/json", "connect-timeout-ms": String(timeoutMs) };
const grpc = { te: "trailers", "grpc-timeout": `${timeoutMs}m` };
const calls: readonly Call[] = [
  ["Connect", httpPort, path, json, Buffer.from("{}")],
  ["gRPC-Web", httpPort, path, { ...grpc, "content-type": "application/grpc-web+proto" }, Buffer.alloc(5)],
  ["REST", httpPort, "/v1/coupons", json, Buffer.alloc(0)],
];

function overHttp1([, port, to, headers, body]: Call): Promise<unknown> {
  return new Promise((resolve, reject) => {
    const options = { port, path: to, method: body.length > 0 ? "POST" : "GET", headers, agent: false };
    const request = http.request(options, (response) => response.resume().once("end", () => resolve(response)));
    request.once("error", reject).end(body);
  });
}

async function overHttp2([, port, to, headers, body]: Call): Promise<void> {
  const session = http2.connect(`http://127.0.0.1:${port}`);
  const endStream = body.length === 0;
  const stream = session.request({ ":method": endStream ? "GET" : "POST", ":path": to, ...headers }, { endStream });
  if (!endStream) stream.end(body);
  await new Promise((resolve, reject) => stream.resume().once("end", resolve).once("error", reject));
  session.destroy();
}

test.for([
  ...calls.map((call) => [`${call[0]} over HTTP/1.1`, overHttp1, call] as const),
  ...calls.map((call) => [`${call[0]} over HTTP/2`, overHttp2, call] as const),
  ["gRPC", overHttp2, ["gRPC", grpcPort, path, { ...grpc, "content-type": "application/grpc" }, Buffer.alloc(5)]],
] as const)("%s: a call that waited for its permit has so much less time", async ([, send, call]) => {
  deadlineMs = Number.NaN;
  await send(call);
  expect(deadlineMs).toBeLessThanOrEqual(waitedFromMs + timeoutMs);
  expect(deadlineMs).toBeGreaterThan(waitedFromMs);
});
