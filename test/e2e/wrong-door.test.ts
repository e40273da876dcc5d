import { once } from "node:events";
import { connect as connectHttp2, type IncomingHttpHeaders, type IncomingHttpStatusHeader } from "node:http2";
import { connect } from "node:net";
import type { DescMethodUnary } from "@bufbuild/protobuf";
import { afterAll, describe, expect, test } from "vitest";
import { CatalogService } from "../../gen/coupon/v1/catalog_service_pb.js";
import { EventService } from "../../gen/coupon/v1/event_service_pb.js";
import { IssuanceService } from "../../gen/coupon/v1/issuance_service_pb.js";
import { oneReplica } from "../support/service.js";
import { envelope, pathOf } from "./front-ends.js";

const { getCoupon, listCoupons } = CatalogService.method;
const { issueCoupon } = IssuanceService.method;

const { replica } = await oneReplica(afterAll);

/** Sends a message of gRPC to its port, with any headers. */
async function ask(path: string, headers: Record<string, string>) {
  const session = connectHttp2(`http://127.0.0.1:${replica.grpcPort}`);
  try {
    const stream = session.request({ ":method": "POST", ":path": path, te: "trailers", ...headers });
    const answered = once(stream, "response") as Promise<[IncomingHttpHeaders & IncomingHttpStatusHeader]>;
    stream.end(envelope(Buffer.alloc(0)));
    const text = Buffer.concat(await stream.toArray()).toString();
    const [head] = await answered;
    return { status: head[":status"], allow: head.allow, text };
  } finally {
    session.destroy();
  }
}

describe("who is at the wrong door is told where to go", () => {
  const url = (method: DescMethodUnary) => `http://127.0.0.1:${replica.httpPort}${pathOf(method)}`;

  test("a content type that is not served", async () => {
    const response = await fetch(url(issueCoupon), {
      method: "POST",
      headers: { "content-type": "text/xml" },
      body: "x",
    });
    expect(response.status).toBe(415);
    expect(await response.text()).toContain(
      'POST /coupon.v1.IssuanceService/IssueCoupon with the header "content-type: application/json"',
    );
  });

  test("a GET of what changes something, and other methods", async () => {
    for (const method of ["GET", "PUT", "DELETE"]) {
      const response = await fetch(url(issueCoupon), { method });
      expect([response.status, response.headers.get("allow")]).toEqual([405, "POST"]);
      expect(await response.text()).toContain("Send POST /coupon.v1.IssuanceService/IssueCoupon");
    }
  });

  test("a GET without its message", async () => {
    const response = await fetch(url(getCoupon));
    expect(response.status).toBe(415);
    expect(await response.text()).toContain(
      "GET /coupon.v1.CatalogService/GetCoupon?connect=v1&encoding=json&message=",
    );
  });

  test("a path that is none", async () => {
    const response = await fetch(`http://127.0.0.1:${replica.httpPort}/coupons`);
    expect(response.status).toBe(404);
    expect(await response.text()).toContain("POST /coupon.v1.");
  });

  test("HTTP/1.1 on the port of native gRPC", async () => {
    const response = await fetch(`http://127.0.0.1:${replica.grpcPort}${pathOf(listCoupons)}`, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: "x".repeat(100_000),
    });
    expect(response.status).toBe(426);
    expect(await response.text()).toContain("HTTP_PORT");
  });

  test("JSON over HTTP/2 on the port of native gRPC, on paths of RPCs and others", async () => {
    for (const path of [pathOf(listCoupons), "/metrics"]) {
      const { status, text } = await ask(path, { "content-type": "application/json" });
      expect([status, text]).toEqual([415, expect.stringContaining("HTTP_PORT")]);
    }
  });

  test.for(["application/grpc-web+proto", "application/grpc+json", "application/grpc+thrift", "application/grpcs"])(
    "%s on the port of native gRPC, which could not answer in it",
    async (type) => {
      const { status, text } = await ask(pathOf(listCoupons), { "content-type": type });
      expect([status, text]).toEqual([415, expect.stringContaining("HTTP_PORT")]);
    },
  );

  test("gRPC that is no POST", async () => {
    const { status, allow } = await ask(pathOf(listCoupons), { ":method": "PUT", "content-type": "application/grpc" });
    expect([status, allow]).toEqual([405, "POST"]);
  });

  test("JSON and GET for a stream", async () => {
    const { parent, name } = EventService.method.watchEvents;
    const at = `http://127.0.0.1:${replica.httpPort}/${parent.typeName}/${name}`;
    const json = await fetch(at, { method: "POST", headers: { "content-type": "application/json" }, body: "{}" });
    const get = await fetch(`${at}?connect=v1&encoding=json&message={}`);
    expect([json.status, get.status, get.headers.get("allow")]).toEqual([415, 405, "POST"]);
    for (const answer of [json, get]) {
      expect(await answer.text()).toMatch(/This is a stream: .*application\/connect\+json/);
    }
  });

  test("what comes to the port of native gRPC piece by piece is served all the same", async () => {
    const proxied = connect(replica.grpcPort, "127.0.0.1");
    const answered = new Promise<Buffer>((resolve, reject) => {
      proxied.once("data", resolve);
      proxied.once("error", reject);
    });
    const preface = Buffer.from("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    for (const byte of preface) {
      await new Promise((sent) => proxied.write(Buffer.of(byte), sent));
    }
    // An empty SETTINGS frame of the client's, to which the server's own comes first.
    proxied.write(Buffer.of(0, 0, 0, 4, 0, 0, 0, 0, 0));
    const settings = 4;
    expect((await answered)[3]).toBe(settings);
    proxied.destroy();
  });
});
