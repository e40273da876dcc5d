import * as http2 from "node:http2";
import { afterAll, describe, expect, onTestFinished, test } from "vitest";
import { CatalogService } from "../../gen/coupon/v1/catalog_service_pb.js";
import { oneReplica } from "../support/service.js";
import { until } from "../support/until.js";
import { callConnect, envelope, pathOf } from "./front-ends.js";
import { createSample, issued } from "./samples.js";

const { replica } = await oneReplica(afterAll);

/** One connection, and what was heard on it. */
async function connect(port: number) {
  const session = http2.connect(`http://127.0.0.1:${port}`);
  onTestFinished(() => session.destroy());
  const heard: string[] = [];
  session.on("goaway", (code) => heard.push(`goaway ${code}`));
  session.on("error", (error) => heard.push(error.message));
  await new Promise((resolve) => session.once("remoteSettings", resolve));
  return { session, heard };
}

const grpcHeaders = (path: string) => ({
  ":method": "POST",
  ":path": path,
  te: "trailers",
  "content-type": "application/grpc",
});

describe("messages that never end", () => {
  const mib = 1_024 * 1_024;
  const path = pathOf(CatalogService.method.batchCreateCoupons);
  /** What a replica holds of one connection at most, in messages of this size; of all together twice as much. */
  const holdable = 8;
  const sendLarge = async () => {
    const large = `{"coupons":[{}]${" ".repeat(4 * mib)}}`;
    const { reason, code } = await callConnect(replica.httpPort, path, large);
    return reason ?? code;
  };

  test.for([["native gRPC"], ["Connect"]] as const)("%s: no more is held than the bounds", async ([way]) => {
    const headers =
      way === "Connect" ? { ":method": "POST", ":path": path, "content-type": "application/json" } : grpcHeaders(path);
    const body = way === "Connect" ? Buffer.alloc(8 * mib - 1, " ") : envelope(Buffer.alloc(8 * mib)).subarray(0, -1);
    // Connect reads what it will refuse to the end; native gRPC breaks off.
    const refusedCount = way === "native gRPC" ? 2 : 0;
    const fill = async (session: http2.ClientHttp2Session) => {
      const streams: http2.ClientHttp2Stream[] = [];
      for (let call = 0; call < holdable + 2; call += 1) {
        const stream = session.request(headers);
        streams.push(stream);
        stream.on("error", () => {});
        await Promise.race([
          new Promise((resolve) => stream.write(body, resolve)),
          new Promise((resolve) => stream.once("close", resolve)),
        ]);
      }
      const isRefused = (stream: http2.ClientHttp2Stream) => stream.rstCode === http2.constants.NGHTTP2_REFUSED_STREAM;
      // What was written may be on its way when the one who refuses it has not yet been heard.
      await until("as many are refused as are too many", () => streams.filter(isRefused).length === refusedCount);
    };
    const one = await connect(way === "Connect" ? replica.httpPort : replica.grpcPort);
    const two = await connect(way === "Connect" ? replica.httpPort : replica.grpcPort);
    await fill(one.session);
    expect(await sendLarge()).toBe("OK");
    await fill(two.session);
    const coupon = await createSample(replica.client);
    await issued(replica.client, coupon.id, "somebody with an ordinary message");
    // What was sent last may not have been read yet.
    await until("the memory is taken", async () => (await sendLarge()) === "OVERLOADED");

    one.session.destroy();
    await until("there is memory again", async () => (await sendLarge()) === "OK");
    two.session.destroy();
    expect([...one.heard, ...two.heard]).toEqual([]);
  });

  test("what says that it is compressed takes no memory before it comes", async () => {
    const { session } = await connect(replica.grpcPort);
    const web = await connect(replica.httpPort);
    const sent: Promise<unknown>[] = [];
    for (let call = 0; call < 50; call += 1) {
      for (const one of [session, web.session]) {
        const stream = one.request({ ...grpcHeaders(path), "grpc-encoding": "gzip" });
        stream.on("error", () => {});
        const head = envelope(Buffer.alloc(mib), 1).subarray(0, 100);
        sent.push(new Promise((resolve) => stream.write(head, resolve)));
      }
    }
    await Promise.all(sent);
    await Promise.all([session, web.session].map((one) => new Promise((resolve) => one.ping(resolve))));
    expect(await sendLarge()).toBe("OK");
    session.destroy();
    web.session.destroy();
  });
});

test.for(["grpcPort", "httpPort"] as const)(
  "%s: who brings calls to their end may have more of them open",
  async (port) => {
    const { session } = await connect(replica[port]);
    expect(session.remoteSettings.maxConcurrentStreams).toBe(100);
    const call = async (isWhole: boolean) => {
      const stream = session.request(grpcHeaders(pathOf(CatalogService.method.getCoupon)));
      stream.on("error", () => {});
      if (isWhole) stream.end(envelope(Buffer.alloc(0)));
      else stream.close(http2.constants.NGHTTP2_CANCEL);
      stream.resume();
      await new Promise((resolve) => stream.once("close", resolve));
    };
    for (let at = 0; at < 20; at += 1) await call(false);
    await new Promise((resolve) => session.ping(resolve));
    expect(session.remoteSettings.maxConcurrentStreams).toBe(100);
    const more = new Promise((resolve) => session.once("remoteSettings", resolve));
    for (let at = 0; at < 20; at += 1) await call(true);
    await more;
    expect(session.remoteSettings.maxConcurrentStreams).toBe(512);
    session.destroy();
  },
);

test("a message that comes after its headers, and has no bytes, is answered", async () => {
  const { session } = await connect(replica.httpPort);
  const stream = session.request({
    ":method": "POST",
    ":path": pathOf(CatalogService.method.listCoupons),
    "content-type": "application/proto",
  });
  const status = new Promise((resolve) => stream.once("response", (headers) => resolve(headers[":status"])));
  await new Promise((resolve) => session.ping(resolve));
  stream.end();
  expect(await status).toBe(200);
  session.destroy();
});
