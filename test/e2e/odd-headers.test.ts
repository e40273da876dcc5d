import { create, toBinary } from "@bufbuild/protobuf";
import { afterAll, describe, expect, test } from "vitest";
import { CatalogService, ListCouponsRequestSchema } from "../../gen/coupon/v1/catalog_service_pb.js";
import { EventService } from "../../gen/coupon/v1/event_service_pb.js";
import { oneReplica } from "../support/service.js";
import { type Answer, callConnect, callGrpc, callGrpcWeb, callRest, envelope, pathOf } from "./front-ends.js";

/** Both ports, and all protocols, judge alike what is said around a message. */

const { replica } = await oneReplica(afterAll);

const path = pathOf(CatalogService.method.listCoupons);
const listing = (pageSize: number) =>
  toBinary(ListCouponsRequestSchema, create(ListCouponsRequestSchema, { pageSize }));
const refused = (...fields: string[]) => ({ code: "INVALID_ARGUMENT", reason: "INVALID_FIELD", fields });

type Headers = Record<string, string>;
const binaryWays: [string, (bytes: Uint8Array<ArrayBuffer>, headers?: Headers) => Promise<Answer>][] = [
  ["native gRPC", (bytes, headers) => callGrpc(replica.grpcPort, path, bytes, headers)],
  ["gRPC on the HTTP port", (bytes, headers) => callGrpc(replica.httpPort, path, bytes, headers)],
  ["gRPC-Web", (bytes, headers) => callGrpcWeb(replica.httpPort, path, bytes, headers)],
];
const jsonWays: [string, (headers: Headers) => Promise<Answer>][] = [
  ["JSON", (headers) => callConnect(replica.httpPort, path, "{}", headers)],
  ["REST", (headers) => callRest(replica.httpPort, { verb: "GET", url: "/v1/coupons", body: undefined }, headers)],
];

describe.for(binaryWays)("%s", ([, call]) => {
  test.for(["5", "1s", "-1S", "1.5S", "123456789S", "1S, 2S"])(
    "the time-out %s is refused by name",
    async (timeout) => {
      expect(await call(envelope(listing(1)), { "grpc-timeout": timeout })).toMatchObject(refused("grpc-timeout"));
    },
  );

  test("a time-out of eight digits is served", async () => {
    expect(await call(envelope(listing(1)), { "grpc-timeout": "99999999H" })).toMatchObject({ code: "OK" });
  });

  test.for([2, 3, 0x80])(
    "a message with the flags %i is refused, and no other is served in its place",
    async (flags) => {
      expect(await call(envelope(listing(1), flags))).toMatchObject(refused(""));
      expect(await call(envelope(listing(-1), flags))).toMatchObject(refused(""));
    },
  );
});

test.for(binaryWays.slice(0, 2))("%s: parameters and capitals of its content type say nothing", async ([, call]) => {
  for (const type of ["application/grpc; charset=utf-8", "application/grpc+proto;a=b", "Application/GRPC"]) {
    expect(await call(envelope(listing(1)), { "content-type": type })).toMatchObject({ code: "OK" });
    expect(await call(envelope(listing(-1)), { "content-type": type })).toMatchObject(refused("page_size"));
  }
});

describe.for(jsonWays)("%s", ([, call]) => {
  test.for(["grpc-timeout", "connect-timeout-ms"])("a wrong %s is refused by name", async (header) => {
    expect(await call({ [header]: "soon" })).toMatchObject(refused(header));
  });
});

test("a stream of Connect: a message with unknown flags begins no stream of all events", async () => {
  const { parent, name } = EventService.method.watchEvents;
  const response = await fetch(`http://127.0.0.1:${replica.httpPort}/${parent.typeName}/${name}`, {
    method: "POST",
    headers: { "content-type": "application/connect+json", "connect-timeout-ms": "10000" },
    body: envelope(Buffer.from('{"userId": "u"}'), 0x80),
  });
  expect(await response.text()).toContain('"INVALID_FIELD"');
});
