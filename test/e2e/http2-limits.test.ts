import * as http2 from "node:http2";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { CatalogService } from "../../gen/coupon/v1/catalog_service_pb.js";
import { type Replica, startReplica } from "../support/replica.js";
import { createStores, type TestStores } from "../support/stores.js";
import { until } from "../support/until.js";
import { callConnect, envelope, pathOf } from "./front-ends.js";
import { createSample, issued } from "./samples.js";

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
  /** What a replica holds at most, in messages of this size. */
  const holdable = 16;

  test.for([["native gRPC"], ["Connect"]] as const)("%s: no more is held than the bound", async ([way]) => {
    const { session, heard } = await connect(way === "Connect" ? replica.httpPort : replica.grpcPort);
    const headers =
      way === "Connect" ? { ":method": "POST", ":path": path, "content-type": "application/json" } : grpcHeaders(path);
    const body = way === "Connect" ? Buffer.alloc(8 * mib - 1, " ") : envelope(Buffer.alloc(8 * mib)).subarray(0, -1);
    let refused = 0;
    for (let call = 0; call < holdable + 4; call += 1) {
      const stream = session.request(headers);
      stream.on("error", () => {});
      await Promise.race([
        new Promise((resolve) => stream.write(body, resolve)),
        new Promise((resolve) => stream.once("close", resolve)),
      ]);
      if (stream.rstCode === http2.constants.NGHTTP2_REFUSED_STREAM) refused += 1;
    }
    // Connect reads what it will refuse to the end; native gRPC breaks off.
    if (way === "native gRPC") expect(refused).toBe(4);
    const one = await createSample(replica.client);
    await issued(replica.client, one.id, "somebody with an ordinary message");
    const large = `{"coupons":[{}]${" ".repeat(4 * mib)}}`;
    expect((await callConnect(replica.httpPort, path, large)).reason).toBe("OVERLOADED");

    session.destroy();
    await until("there is room again", async () => (await callConnect(replica.httpPort, path, large)).code === "OK");
    expect(heard).toEqual([]);
  });
});
