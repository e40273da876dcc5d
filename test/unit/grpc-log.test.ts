import * as http2 from "node:http2";
import { afterAll, expect, test, vi } from "vitest";
import { CatalogService } from "../../gen/coupon/v1/catalog_service_pb.js";
import { Code, Failure } from "../../src/transport/error-table.js";
import { GrpcServer } from "../../src/transport/grpc/grpc-server.js";
import { maxConnections } from "../../src/transport/http2-limits.js";
import { ArrivalDeadlines } from "../../src/transport/messages/arrival-deadlines.js";
import { LargeMessages } from "../../src/transport/messages/large-messages.js";
import { LoadShedder } from "../../src/transport/overload/load-shedder.js";
import type { IncomingCall, Invoke } from "../../src/transport/pipeline.js";
import { routeOf } from "../../src/transport/routes.js";

const method = CatalogService.method.listCoupons;
const invoke = (async (call: IncomingCall) => {
  call.requestId = "one";
  call.permit.end(false);
  return new Failure("UNAUTHENTICATED", Code.unauthenticated, "no", [], Buffer.alloc(0), undefined);
}) as Invoke;
const isServing = () => true;
const metrics = { shedCall() {}, refusedCall() {}, shedConnections() {}, watchOverload() {} };
const loadShedder = new LoadShedder({ maxAtWork: 100, maxConnections, isServing, metrics, log: { warn() {} } });
const server = new GrpcServer(
  [routeOf(method, invoke)],
  new LargeMessages(),
  new ArrivalDeadlines(),
  loadShedder,
  () => {},
);
const port = await server.listen("127.0.0.1", 0);
afterAll(async () => {
  await server.close(100);
  loadShedder.close();
});

test.for([
  ["a key with a letter that is none of ASCII", { authorization: "Bearer ck_top_secr\u00e9t" }],
  ["a name that gRPC does not know", { "x!": "secret" }],
])("headers that grpc-js cannot read are not written down: %s", async ([, headers]) => {
  const written = vi.spyOn(console, "error").mockImplementation(() => {});
  const session = http2.connect(`http://127.0.0.1:${port}`);
  try {
    const stream = session.request({
      ":method": "POST",
      ":path": `/${method.parent.typeName}/${method.name}`,
      "content-type": "application/grpc",
      ...(headers as Record<string, string>),
    });
    stream.resume().end(Buffer.alloc(5));
    const [answer] = await new Promise<[http2.IncomingHttpHeaders]>((resolve) =>
      stream.once("response", (...told) => resolve([told[0]])),
    );
    expect(answer["grpc-status"]).toBe(String(Code.unauthenticated));
    expect(written.mock.calls).toEqual([]);
  } finally {
    session.destroy();
    written.mockRestore();
  }
});
