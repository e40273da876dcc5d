import * as http2 from "node:http2";
import { create } from "@bufbuild/protobuf";
import { afterAll, describe, expect, onTestFinished, test } from "vitest";
import { CatalogService, GetCouponResponseSchema } from "../../gen/coupon/v1/catalog_service_pb.js";
import { CouponSchema } from "../../gen/coupon/v1/coupon_pb.js";
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
import { until } from "../support/until.js";

/** Answers that clients ask for and do not take: what they occupy is bounded. */

/** What became of each call. */
const reasons: string[] = [];
const isServing = () => true;
const pipeline = new Pipeline({
  authenticator: off,
  log: { info: () => {}, error: () => {} },
  metrics: { observe: ({ reason }) => reasons.push(reason) },
  validator: messageValidator(),
  defaultDeadlineMs: 5_000,
  maxDeadlineMs: 30_000,
  isServing,
});
const answerBytes = 100_000;
/** Of one connection there is room for three. */
const memoryBytes = 700_000;
const method = CatalogService.method.getCoupon;
const coupon = create(CouponSchema, { description: "x".repeat(answerBytes) });
const route = routeOf(
  method,
  pipeline.mount(method, async () => create(GetCouponResponseSchema, { coupon })),
);
const metrics = { shedCall() {}, refusedCall() {}, shedConnections() {}, watchOverload() {} };
const loadShedder = new LoadShedder({ maxAtWork: 100, maxConnections, isServing, metrics, log: { warn() {} } });
const large = () => new LargeMessages(memoryBytes);
const deadlines = new ArrivalDeadlines();
const grpcServer = new GrpcServer([route], large(), deadlines, loadShedder, () => {});
const connectServer = new ConnectServer(
  [route],
  large(),
  deadlines,
  () => false,
  loadShedder,
  () => {},
);
const grpcPort = await grpcServer.listen("127.0.0.1", 0);
const httpPort = await connectServer.listen("127.0.0.1", 0);
afterAll(async () => {
  await Promise.all([grpcServer.close(100), connectServer.close(100)]);
  loadShedder.close();
});

const id = "01a1fbca-1398-75c3-8edb-0d6444d7fc82";
const path = `/${method.parent.typeName}/${method.name}`;
const bytes = Buffer.concat([Buffer.from([0, 0, 0, 0, 38, 10, 36]), Buffer.from(id)]);
const grpc = { ":method": "POST", ":path": path, "content-type": "application/grpc" };
const ways = [
  ["gRPC on its own port", grpcPort, grpc, bytes],
  ["gRPC on the HTTP port", httpPort, grpc, bytes],
  ["Connect", httpPort, { ...grpc, "content-type": "application/json" }, Buffer.from(`{"couponId":"${id}"}`)],
  ["REST", httpPort, { ":path": `/v1/coupons/${id}` }, undefined],
] as const;

type Way = (typeof ways)[number];

/** A connection whose client takes nothing of what it is answered. */
async function open(port: number) {
  const session = http2.connect(`http://127.0.0.1:${port}`, { settings: { initialWindowSize: 0 } });
  session.on("error", () => {});
  await new Promise((resolve) => session.once("remoteSettings", resolve));
  return session;
}

/** What becomes of a call: its caller may not hear of it. */
async function outcomeOf(session: http2.ClientHttp2Session, [, , headers, message]: Way): Promise<unknown> {
  const before = reasons.length;
  const stream = session.request(headers);
  stream.on("error", () => {}).resume();
  stream.end(message);
  await until("it is decided", () => reasons.length > before);
  return reasons[before];
}

describe.for(ways)("over %s", (way) => {
  test("a client that takes nothing gets no more than its share of the memory, which comes back when it goes", async () => {
    const greedy = await open(way[1]);
    const answered = [];
    for (let call = 0; call < 5; call += 1) answered.push(await outcomeOf(greedy, way));
    expect(answered).toEqual(["OK", "OK", "OK", "OVERLOADED", "OVERLOADED"]);
    const other = await open(way[1]);
    expect(await outcomeOf(other, way)).toBe("OK");
    other.destroy();
    greedy.destroy();
    // Two that are greedy have all of it, when those before have gone.
    for (let index = 0; index < 2; index += 1) {
      const next = await open(way[1]);
      onTestFinished(() => next.destroy());
      await until("there is room again", async () => (await outcomeOf(next, way)) === "OK");
      expect([await outcomeOf(next, way), await outcomeOf(next, way)]).toEqual(["OK", "OK"]);
    }
  });
});
