import * as http2 from "node:http2";
import { create } from "@bufbuild/protobuf";
import { afterAll, expect, test } from "vitest";
import { CatalogService, ListCouponsResponseSchema } from "../../gen/coupon/v1/catalog_service_pb.js";
import { off } from "../../src/auth/authenticator.js";
import { ConnectServer } from "../../src/transport/connect/connect-server.js";
import { GrpcServer } from "../../src/transport/grpc/grpc-server.js";
import { maxConnections } from "../../src/transport/http2-limits.js";
import { ArrivalDeadlines } from "../../src/transport/messages/arrival-deadlines.js";
import { LargeMessages } from "../../src/transport/messages/large-messages.js";
import { LoadShedder } from "../../src/transport/overload/load-shedder.js";
import { Pipeline } from "../../src/transport/pipeline.js";
import { routeOf } from "../../src/transport/routes.js";
import { messageValidator } from "../../src/transport/validator.js";

const isServing = () => true;
const pipeline = new Pipeline({
  authenticator: off,
  log: { info: () => {}, error: () => {} },
  metrics: { observe: () => {} },
  validator: messageValidator(),
  defaultDeadlineMs: 5_000,
  maxDeadlineMs: 30_000,
  isServing,
});
const method = CatalogService.method.listCoupons;
let served = 0;
const route = routeOf(
  method,
  pipeline.mount(method, async () => {
    served += 1;
    return create(ListCouponsResponseSchema);
  }),
);
const metrics = { shedCall() {}, refusedCall() {}, shedConnections() {}, watchOverload() {} };
const loadShedder = new LoadShedder({ maxAtWork: 100, maxConnections, isServing, metrics, log: { warn() {} } });
const deadlines = new ArrivalDeadlines(200, 20);
const grpcServer = new GrpcServer([route], new LargeMessages(), deadlines, loadShedder, () => {});
const connectServer = new ConnectServer(
  [route],
  new LargeMessages(),
  deadlines,
  () => false,
  loadShedder,
  () => {},
);
const ports = {
  grpc: await grpcServer.listen("127.0.0.1", 0),
  connect: await connectServer.listen("127.0.0.1", 0),
};
afterAll(async () => {
  await Promise.all([grpcServer.close(100), connectServer.close(100)]);
  loadShedder.close();
});

const empty = Buffer.alloc(5);

function open(session: http2.ClientHttp2Session): http2.ClientHttp2Stream {
  const stream = session.request({
    ":method": "POST",
    ":path": `/${method.parent.typeName}/${method.name}`,
    "content-type": "application/grpc",
    te: "trailers",
  });
  stream.on("error", () => {});
  stream.resume();
  return stream;
}

const statusOf = (stream: http2.ClientHttp2Stream) =>
  new Promise<unknown>((resolve) => {
    stream.once("response", (headers) => "grpc-status" in headers && resolve(headers["grpc-status"]));
    stream.once("trailers", (trailers) => resolve(trailers["grpc-status"]));
  });

test.for([
  ["grpc", 0],
  ["grpc", 3],
  ["connect", 0],
  ["connect", 3],
] as const)(
  "%s: a message of which %i bytes came in time, and the rest after it was refused, harms nobody",
  async ([port, early]) => {
    served = 0;
    const session = http2.connect(`http://127.0.0.1:${ports[port]}`);
    session.on("error", () => {});
    const late = open(session);
    if (early > 0) late.write(empty.subarray(0, early));
    const closed = new Promise((resolve) => late.once("close", resolve));
    expect(await statusOf(late)).toBe("4");
    late.end(empty.subarray(early));
    await closed;
    expect(served).toBe(0);
    const next = open(session);
    const status = statusOf(next);
    next.end(empty);
    expect(await status).toBe("0");
    expect(served).toBe(1);
    session.destroy();
  },
);
