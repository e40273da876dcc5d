import * as http2 from "node:http2";
import { create, toBinary } from "@bufbuild/protobuf";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { CatalogService } from "../../gen/coupon/v1/catalog_service_pb.js";
import { IssuanceService, IssueCouponRequestSchema } from "../../gen/coupon/v1/issuance_service_pb.js";
import { type Replica, startReplica } from "../support/replica.js";
import { createStores, type TestStores } from "../support/stores.js";
import { until } from "../support/until.js";
import { callConnect, envelope, pathOf } from "./front-ends.js";
import { createSample, issued, readCoupon } from "./samples.js";

let stores: TestStores;
let replica: Replica;

beforeAll(async () => {
  stores = await createStores();
  replica = await startReplica(stores);
});

afterAll(async () => {
  await replica?.stop();
  await stores?.drop();
});

/** One connection, and what was heard on it. */
async function connect(port: number) {
  const session = http2.connect(`http://127.0.0.1:${port}`);
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
    /** Answers how many of the calls were refused. */
    const fill = async (session: http2.ClientHttp2Session) => {
      let refused = 0;
      for (let call = 0; call < holdable + 2; call += 1) {
        const stream = session.request(headers);
        stream.on("error", () => {});
        await Promise.race([
          new Promise((resolve) => stream.write(body, resolve)),
          new Promise((resolve) => stream.once("close", resolve)),
        ]);
        if (stream.rstCode === http2.constants.NGHTTP2_REFUSED_STREAM) refused += 1;
      }
      return refused;
    };
    const one = await connect(way === "Connect" ? replica.httpPort : replica.grpcPort);
    const two = await connect(way === "Connect" ? replica.httpPort : replica.grpcPort);
    // Connect reads what it will refuse to the end; native gRPC breaks off.
    const expected = way === "native gRPC" ? 2 : 0;
    expect(await fill(one.session)).toBe(expected);
    expect(await sendLarge()).toBe("OK");
    expect(await fill(two.session)).toBe(expected);
    const coupon = await createSample(replica.client);
    await issued(replica.client, coupon.id, "somebody with an ordinary message");
    expect(await sendLarge()).toBe("OVERLOADED");

    one.session.destroy();
    await until("there is room again", async () => (await sendLarge()) === "OK");
    two.session.destroy();
    expect([...one.heard, ...two.heard]).toEqual([]);
  });

  test("what says that it is compressed takes no room before it comes", async () => {
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

/** Older ones know no other limit than nghttp2's own. */
const [major = 0, minor = 0] = process.versions.node.split(".").map(Number);
const canSetResetLimits = major > 22 || (major === 22 && minor >= 10);

describe.skipIf(!canSetResetLimits)("calls that are given up", () => {
  test.for([["native gRPC"], ["Connect"]] as const)("%s: 5,000 of them do not end the connection", async ([way]) => {
    const { session, heard } = await connect(way === "Connect" ? replica.httpPort : replica.grpcPort);
    const { id } = await createSample(replica.client);
    const message = { target: { case: "couponId" as const, value: id }, userId: "x" };
    const bytes = envelope(toBinary(IssueCouponRequestSchema, create(IssueCouponRequestSchema, message)));
    const call = () => {
      const stream = session.request(grpcHeaders(pathOf(IssuanceService.method.issueCoupon)));
      stream.on("error", () => {});
      stream.end(bytes);
      return stream;
    };
    for (let burst = 0; burst < 50; burst += 1) {
      const streams = Array.from({ length: 100 }, call);
      await new Promise((resolve) => session.ping(resolve));
      for (const stream of streams) stream.close(http2.constants.NGHTTP2_CANCEL);
    }
    const last = call();
    const status = await new Promise((resolve) => {
      last.on("trailers", (trailers) => resolve(trailers["grpc-status"]));
      last.on("response", (headers) => {
        if (headers["grpc-status"] !== undefined) resolve(headers["grpc-status"]);
      });
      last.resume();
    });
    // Whether it is refused because the user has it by now does not matter here.
    expect(["0", "6"]).toContain(String(status));
    expect(heard).toEqual([]);
    expect((await readCoupon(replica.client, id)).issuedCount).toBe(1n);
    session.close();
  });
});
