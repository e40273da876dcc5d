import { randomUUID } from "node:crypto";
import { deflateSync, gzipSync } from "node:zlib";
import { create, type DescMethodUnary, fromBinary, toBinary, toJson } from "@bufbuild/protobuf";
import { afterAll, describe, expect, test } from "vitest";
import {
  BatchCreateCouponsRequestSchema,
  CatalogService,
  UploadCodesRequestSchema,
  UploadCodesResponseSchema,
} from "../../gen/coupon/v1/catalog_service_pb.js";
import { BatchIssueCouponsRequestSchema, IssuanceService } from "../../gen/coupon/v1/issuance_service_pb.js";
import { UsageService } from "../../gen/coupon/v1/usage_service_pb.js";
import { oneReplica } from "../support/service.js";
import {
  type Answer,
  callConnect,
  callGrpc,
  callGrpcWeb,
  callNative,
  envelope,
  pathOf,
  readConnect,
} from "./front-ends.js";
import { createSample, issued, sampleCoupon } from "./samples.js";

const { uploadCodes, batchCreateCoupons, createCoupon, updateCoupon, getCoupon } = CatalogService.method;
const { batchIssueCoupons } = IssuanceService.method;
const { useCoupons } = UsageService.method;

// A busy machine takes its time for 50,000 lines.
const { replica } = await oneReplica(afterAll, { DEFAULT_DEADLINE_MS: "60000", MAX_DEADLINE_MS: "60000" });

type Send = (method: DescMethodUnary, bytes: Buffer) => Promise<Answer>;
const proto = { "content-type": "application/proto" };
const gzipped = { "content-encoding": "gzip" };
const encoded = (encoding: string) => ({ "grpc-encoding": encoding });
const whole = (bytes: Uint8Array) => new Uint8Array(bytes);

/** The same message comes in many ways, and to compress 8 MiB takes longer than to refuse them. */
const compressed = new Map<typeof gzipSync, WeakMap<Buffer, Buffer>>();
function once(compress: typeof gzipSync, bytes: Buffer): Buffer {
  const known = compressed.get(compress) ?? new WeakMap<Buffer, Buffer>();
  compressed.set(compress, known);
  const result = known.get(bytes) ?? compress(bytes);
  known.set(bytes, result);
  return result;
}
const gzip = (bytes: Buffer) => once(gzipSync, bytes);
const deflate = (bytes: Buffer) => once(deflateSync, bytes);

/** Every way in which bytes can come, as they are and compressed. */
const binaryWays: Record<string, Send> = {
  "native gRPC": (method, bytes) => callNative(replica.client, method, bytes),
  "native gRPC with deflate": (method, bytes) =>
    callGrpc(replica.grpcPort, pathOf(method), envelope(deflate(bytes), 1), encoded("deflate")),
  "native gRPC with gzip": (method, bytes) =>
    callGrpc(replica.grpcPort, pathOf(method), envelope(gzip(bytes), 1), encoded("gzip")),
  "gRPC on the other port with gzip": (method, bytes) =>
    callGrpc(replica.httpPort, pathOf(method), envelope(gzip(bytes), 1), encoded("gzip")),
  Connect: (method, bytes) => callConnect(replica.httpPort, pathOf(method), whole(bytes), proto),
  "gRPC-Web": (method, bytes) => callGrpcWeb(replica.httpPort, pathOf(method), envelope(bytes)),
  "Connect with gzip": (method, bytes) =>
    callConnect(replica.httpPort, pathOf(method), whole(gzip(bytes)), { ...proto, ...gzipped }),
  "gRPC-Web with gzip": (method, bytes) =>
    callGrpcWeb(replica.httpPort, pathOf(method), envelope(gzip(bytes), 1), encoded("gzip")),
};
const jsonWays: Record<string, Send> = {
  JSON: (method, bytes) => callConnect(replica.httpPort, pathOf(method), whole(bytes)),
  "JSON with gzip": (method, bytes) => callConnect(replica.httpPort, pathOf(method), whole(gzip(bytes)), gzipped),
  "gRPC-Web with JSON": (method, bytes) =>
    callGrpcWeb(replica.httpPort, pathOf(method), envelope(bytes), { "content-type": "application/grpc-web+json" }),
};

const mib = 1_024 * 1_024;
const many = (unit: number[], times: number) => Buffer.alloc(unit.length * times, Uint8Array.from(unit));
const field = (tag: number, bytes: Buffer) => {
  const length = [0, 7, 14, 21].map((shift, index) => ((bytes.length >>> shift) & 0x7f) | (index < 3 ? 0x80 : 0));
  return Buffer.concat([Uint8Array.of(tag, ...length), bytes]);
};

const binaryWeapons: [string, DescMethodUnary, Buffer][] = [
  ["4 million empty lines", uploadCodes, many([0x1a, 0], 4 * mib - 8)],
  ["4 million empty coupons", batchCreateCoupons, many([0x0a, 0], 4 * mib - 8)],
  ["524,000 empty users", batchIssueCoupons, many([0x12, 0], 524_000)],
  ["32,000 empty choices", useCoupons, many([0x12, 0], 32_000)],
  ["32,000 unknown fields", useCoupons, many([0x78, 0], 32_000)],
  ["4 million unknown fields", uploadCodes, many([0x78, 0], 4 * mib - 8)],
  ["4 million unknown fields in one line", uploadCodes, field(0x1a, many([0x78, 0], 4 * mib - 8))],
  ["a million groups in each other", uploadCodes, many([0x7b], mib)],
  ["30,000 paths of a mask", updateCoupon, field(0x12, many([0x0a, 0], 30_000))],
  ["a name of 8 MiB", batchCreateCoupons, field(0x0a, field(0x12, Buffer.alloc(8 * mib - 20, "é")))],
  ["a request id of 8 MiB", uploadCodes, field(0x22, Buffer.alloc(8 * mib - 20, "x"))],
  [
    "8 MiB of the last byte of a number",
    uploadCodes,
    Buffer.concat([Uint8Array.of(0x10), Buffer.alloc(8 * mib - 20, 0xff)]),
  ],
];
const list = (name: string, item: string, times: number) =>
  Buffer.from(`{"${name}":[${Buffer.alloc((item.length + 1) * times, `${item},`)}${item}]}`);
const jsonWeapons: [string, DescMethodUnary, Buffer][] = [
  ["2.8 million empty lines", uploadCodes, list("lines", "{}", 2_790_000)],
  ["2.8 million empty coupons", batchCreateCoupons, list("coupons", "{}", 2_790_000)],
  ["4 million numbers for lines", uploadCodes, list("lines", "1", 4_000_000)],
  ["340,000 empty users", batchIssueCoupons, list("userIds", '""', 340_000)],
  ["20,000 texts for choices", useCoupons, list("coupons", '""', 20_000)],
  ["4 million brackets", uploadCodes, Buffer.from("[".repeat(4_000_000) + "]".repeat(4_000_000))],
  ["brackets in a line", uploadCodes, Buffer.from(`{"lines":[${"[".repeat(4_000_000)}`)],
  ["600,000 names", uploadCodes, Buffer.from(`{${Array.from({ length: 600_000 }, (_, n) => `"k${n}":0`).join(",")}}`)],
  ["a list 60 times", uploadCodes, Buffer.from(`{${`"lines":[${"{},".repeat(40_000)}{}],`.repeat(60)}"lines":[]}`)],
  ["a text of 8 MiB", uploadCodes, Buffer.from(`{"requestId":"${"x".repeat(8 * mib - 99)}"}`)],
  ["a number of 8 MiB", uploadCodes, Buffer.from(`{"type":${"1".repeat(8 * mib - 99)}}`)],
  ["a name of 8 MiB", uploadCodes, Buffer.from(`{"${"x".repeat(8 * mib - 99)}":1}`)],
  ["a wrong line after 49,999", uploadCodes, Buffer.from(`{"lines":[${"{},".repeat(49_999)}1]}`)],
  ["30,000 paths of a mask", updateCoupon, Buffer.from(`{"coupon":{},"updateMask":"${"a,".repeat(30_000)}a"}`)],
];

function expectRefused(answer: Answer): void {
  expect(["INVALID_ARGUMENT INVALID_FIELD", "RESOURCE_EXHAUSTED MESSAGE_TOO_LARGE"]).toContain(
    `${answer.code} ${answer.reason}`,
  );
  expect(answer.fields.length).toBeLessThanOrEqual(20);
}

const { id: ordinary } = await createSample(replica.client);

async function expectServing(): Promise<void> {
  await issued(replica.client, ordinary, randomUUID());
}

/** Otherwise each weapon comes by every third way, bytes as they are and compressed: behind the ways all is the same. */
const isWhole = process.env.FAULT_SCALE === "1";
const among = <T>(weapons: readonly T[], place: number) => weapons.filter((_, at) => isWhole || (at + place) % 3 === 0);

for (const [ways, weapons] of [
  [binaryWays, binaryWeapons],
  [jsonWays, jsonWeapons],
] as const) {
  describe.for(Object.entries(ways).map(([way, send], place) => ({ way, send, place })))("$way", ({ send, place }) => {
    test.for(among(weapons, place))("%s", async ([, method, bytes]) => {
      expectRefused(await send(method, bytes));
      await expectServing();
    });
  });
}

test("GET with a message that is compressed to a thousandth", async () => {
  const message = gzipSync(`{"couponId":"${" ".repeat(7 * mib)}"}`).toString("base64url");
  const query = `?connect=v1&encoding=json&compression=gzip&base64=1&message=${message}`;
  const response = await fetch(`http://127.0.0.1:${replica.httpPort}${pathOf(getCoupon)}${query}`);
  expectRefused(await readConnect(response));
});

test("two messages where one belongs: the first is not decoded either", async () => {
  const body = new Uint8Array([...envelope(many([0x1a, 0], mib)), ...envelope(new Uint8Array())]);
  expect((await callGrpcWeb(replica.httpPort, pathOf(uploadCodes), body)).code).toBe("UNIMPLEMENTED");
});

describe.for([
  ["health", "/grpc.health.v1.Health/Check"],
  ["reflection", "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo"],
] as const)("what is none of the contract: %s", ([, path]) => {
  test("a message of 8 MiB is cut off", async () => {
    const plain = await callGrpc(replica.grpcPort, path, envelope(many([0x0a, 0], 4 * mib - 8)));
    expect(plain.code).toBe("reset 7");
    const bytes = envelope(gzipSync(many([0x0a, 0], 4 * mib - 8)), 1);
    expect((await callGrpc(replica.grpcPort, path, bytes, encoded("gzip"))).code).toBe("reset 7");
    await expectServing();
  });

  test("on the HTTP port it is refused", async () => {
    const plain = await callGrpc(replica.httpPort, path, envelope(many([0x0a, 0], 4 * mib - 8)));
    expect(plain.code).toBe("RESOURCE_EXHAUSTED");
    const bytes = envelope(gzipSync(many([0x0a, 0], 4 * mib - 8)), 1);
    expect((await callGrpc(replica.httpPort, path, bytes, encoded("gzip"))).code).toBe("RESOURCE_EXHAUSTED");
    await expectServing();
  });
});

test("native gRPC: a compressed health check is answered", async () => {
  const body = envelope(gzipSync(Uint8Array.of()), 1);
  expect((await callGrpc(replica.grpcPort, "/grpc.health.v1.Health/Check", body, encoded("gzip"))).code).toBe("OK");
});

describe("native gRPC with an encoding", () => {
  const coupon = toBinary(createCoupon.input, create(createCoupon.input, { coupon: sampleCoupon() } as never));
  const send = (encoding: string, body: Uint8Array, method: DescMethodUnary = createCoupon) =>
    callGrpc(replica.grpcPort, pathOf(method), body, encoded(encoding));

  test("a message may be compressed or not, and both are served", async () => {
    expect((await send("gzip", envelope(gzipSync(coupon), 1))).code).toBe("OK");
    expect((await send("gzip", envelope(coupon, 0))).code).toBe("OK");
    expect((await send("deflate", envelope(deflateSync(coupon), 1))).code).toBe("OK");
    expect((await send("deflate", envelope(coupon, 0))).code).toBe("OK");
    expect((await send("identity", envelope(coupon, 0))).code).toBe("OK");
  });

  test("the method's own limit holds for what it becomes", async () => {
    const large = toBinary(
      createCoupon.input,
      create(createCoupon.input, {
        coupon: sampleCoupon({ description: "one word and another ".repeat(50_000) }),
      } as never),
    );
    const answer = await send("gzip", envelope(gzipSync(large), 1));
    expect([answer.code, answer.reason]).toEqual(["RESOURCE_EXHAUSTED", "MESSAGE_TOO_LARGE"]);
  });

  test("what is not what it says is the caller's mistake, and an unknown one is UNIMPLEMENTED", async () => {
    expectRefused(await send("gzip", envelope(coupon, 1)));
    expectRefused(await send("deflate", envelope(coupon, 1)));
    expect((await send("br", envelope(coupon, 1))).code).toBe("UNIMPLEMENTED");
  });

  test("whoever claims to be another call's message is not believed", async () => {
    const body = envelope(gzipSync(coupon), 1);
    const headers = { "x-coupon-arrival": "1" };
    expect((await callGrpc(replica.grpcPort, pathOf(createCoupon), envelope(coupon), headers)).code).toBe("OK");
    const both = { ...headers, ...encoded("gzip") };
    expect((await callGrpc(replica.grpcPort, pathOf(createCoupon), body, both)).code).toBe("OK");
  });
});

describe("what is large by right", () => {
  const terms = { maxUses: 2, maxHolders: 3, expireTime: { seconds: BigInt(Math.floor(Date.now() / 1_000) + 9_999) } };

  // codes.test.ts sends as many that are added.
  test("50,000 lines that are all refused: as JSON, and again as bytes and compressed", async () => {
    const message = create(UploadCodesRequestSchema, {
      target: { case: "couponId", value: (await createSample(replica.client, { codeBook: {} })).id },
      lines: Array.from({ length: 50_000 }, () => ({ code: "é", terms })),
      requestId: `upload-${randomUUID()}`,
    });
    const json = JSON.stringify(toJson(UploadCodesRequestSchema, message));
    const post = (body: string | Uint8Array<ArrayBuffer>, headers = {}) =>
      fetch(`http://127.0.0.1:${replica.httpPort}${pathOf(uploadCodes)}`, {
        method: "POST",
        // The longest that is allowed: a busy machine takes its time for so many.
        headers: { "content-type": "application/json", "connect-timeout-ms": "30000", ...headers },
        body,
      });
    const first = await post(json);
    const answer = (await first.json()) as { invalidCount: number; rejectedLines: { line: number }[] };
    expect([answer.invalidCount, answer.rejectedLines.length, answer.rejectedLines.at(-1)?.line]).toEqual([
      50_000, 50_000, 50_000,
    ]);
    const bytes = toBinary(UploadCodesRequestSchema, message);
    const again = await post(whole(bytes), proto);
    const binary = fromBinary(UploadCodesResponseSchema, new Uint8Array(await again.arrayBuffer()));
    expect(toJson(UploadCodesResponseSchema, binary)).toEqual(answer);
    for (const way of ["native gRPC with gzip", "gRPC-Web with gzip"])
      expect(await (binaryWays[way] as Send)(uploadCodes, Buffer.from(bytes))).toMatchObject({ code: "OK" });
  });

  test("1,000 coupons that are the same, in every way, and again by the same request id", async () => {
    const message = create(BatchCreateCouponsRequestSchema, {
      coupons: Array.from({ length: 1_000 }, () => sampleCoupon({ description: "Valid in all shops. ".repeat(20) })),
      requestId: "the-same",
    });
    const bytes = Buffer.from(toBinary(BatchCreateCouponsRequestSchema, message));
    const json = Buffer.from(JSON.stringify(toJson(BatchCreateCouponsRequestSchema, message)));
    for (const send of Object.values(binaryWays))
      expect(await send(batchCreateCoupons, bytes)).toMatchObject({ code: "OK" });
    for (const send of Object.values(jsonWays))
      expect(await send(batchCreateCoupons, json)).toMatchObject({ code: "OK" });
  });

  test("1,000 users with the longest names", async () => {
    const { id } = await createSample(replica.client);
    const userIds = Array.from({ length: 1_000 }, (_, index) =>
      `${index}`.padEnd(128, "\u{1f39f}").slice(0, 128).toWellFormed(),
    );
    const request = create(BatchIssueCouponsRequestSchema, { couponId: id, userIds, requestId: "all" });
    const bytes = Buffer.from(toBinary(BatchIssueCouponsRequestSchema, request));
    expect(await (binaryWays["gRPC-Web with gzip"] as Send)(batchIssueCoupons, bytes)).toMatchObject({ code: "OK" });
    const { outcomes } = (await replica.client.callBytes(batchIssueCoupons, bytes)) as {
      outcomes: { userId: string; replayed: boolean }[];
    };
    expect(outcomes.map(({ userId, replayed }) => [userId, replayed])).toEqual(userIds.map((user) => [user, true]));
  });
});

test("after all of it, the server has had no fault of its own", async () => {
  await expectServing();
  expect(
    replica
      .log()
      .split("\n")
      .filter((line) => line.includes("call failed") || line.includes("could not be sent")),
  ).toEqual([]);
});
