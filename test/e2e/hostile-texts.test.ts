import { create, type DescMethodUnary, toBinary } from "@bufbuild/protobuf";
import { afterAll, afterEach, describe, expect, test } from "vitest";
import { CatalogService, UpdateCouponRequestSchema } from "../../gen/coupon/v1/catalog_service_pb.js";
import { IssuanceService, IssueCouponRequestSchema } from "../../gen/coupon/v1/issuance_service_pb.js";
import { restFormOf } from "../support/rest-form.js";
import { oneReplica } from "../support/service.js";
import {
  type Answer,
  callConnect,
  callGrpc,
  callGrpcWeb,
  callNative,
  callRest,
  envelope,
  pathOf,
} from "./front-ends.js";
import { createSample, issued } from "./samples.js";

const { updateCoupon, createCoupon } = CatalogService.method;
const { issueCoupon } = IssuanceService.method;

const { replica } = await oneReplica(afterAll);

const someId = "01a21a52-d5f9-76e3-a351-7ab787c22bea";
const proto = { "content-type": "application/proto" };
const webJson = { "content-type": "application/grpc-web+json" };
const whole = (bytes: Uint8Array) => new Uint8Array(bytes);

type SendBytes = (method: DescMethodUnary, bytes: Uint8Array) => Promise<Answer>;
const byteWays: [string, SendBytes][] = [
  ["native gRPC", (method, bytes) => callNative(replica.client, method, bytes)],
  ["gRPC on the HTTP port", (method, bytes) => callGrpc(replica.httpPort, pathOf(method), envelope(bytes))],
  ["gRPC-Web", (method, bytes) => callGrpcWeb(replica.httpPort, pathOf(method), envelope(bytes))],
  ["Connect", (method, bytes) => callConnect(replica.httpPort, pathOf(method), whole(bytes), proto)],
];
/** The text of a message in JSON, as it is. */
type SendJson = (method: DescMethodUnary, json: string) => Promise<Answer>;
const jsonWays: [string, SendJson][] = [
  ["Connect with JSON", (method, json) => callConnect(replica.httpPort, pathOf(method), json)],
  [
    "gRPC-Web with JSON",
    (method, json) => callGrpcWeb(replica.httpPort, pathOf(method), envelope(Buffer.from(json)), webJson),
  ],
  [
    "REST",
    (method, json) => {
      // What goes into the body alone; the path names any coupon.
      const { verb, url } = restFormOf(method, {}, someId);
      const body = method === updateCoupon ? coupon(json) : json;
      return callRest(replica.httpPort, { verb, url: url.split("?", 1)[0] as string, body });
    },
  ],
];
/** The part of an update that is its body in REST. */
const coupon = (json: string) => json.replace(/^\{"coupon":(.*)\}$/, "$1");

/** A character that takes two units of a text. */
const pair = "\u{1f600}";

function expectRefused(answer: Answer): void {
  expect([answer.code, answer.reason]).toEqual(["INVALID_ARGUMENT", "INVALID_FIELD"]);
  for (const text of [answer.message, ...answer.fields]) expect(text.isWellFormed()).toBe(true);
}

// Whatever a test has sent, ordinary messages are served after it.
afterEach(async () => {
  await issued(replica.client, (await createSample(replica.client)).id, "somebody with an ordinary message");
});

const masked = (...paths: string[]) =>
  toBinary(
    UpdateCouponRequestSchema,
    create(UpdateCouponRequestSchema, { coupon: { id: someId }, updateMask: { paths } }),
  );
const labelled = (key: string) =>
  toBinary(
    IssueCouponRequestSchema,
    create(IssueCouponRequestSchema, {
      ...{ target: { case: "couponId", value: someId }, userId: "u", labels: { [key]: "v" } },
    }),
  );

describe("a character that stands where a text is cut", () => {
  /** Wherever the cut is, one of four texts in a row has the character across it. */
  const lengths = [96, 97, 98, 99, 296, 297, 298, 299, 396, 397, 398, 399];

  test.for(byteWays)("in the path of a mask, by %s", async ([, send]) => {
    for (const length of lengths) expectRefused(await send(updateCoupon, masked("a".repeat(length) + pair)));
    expectRefused(await send(updateCoupon, masked(...lengths.map((length) => "a".repeat(length) + pair))));
  });

  test.for(byteWays)("in the key of a label, by %s", async ([, send]) => {
    for (const length of lengths) expectRefused(await send(issueCoupon, labelled("k".repeat(length) + pair)));
  });

  test.for(jsonWays)("in the name of a field, by %s", async ([, send]) => {
    for (const length of lengths) {
      expectRefused(await send(createCoupon, JSON.stringify({ ["x".repeat(length) + pair]: 1 })));
    }
  });

  test("in the name of a parameter", async () => {
    for (const length of lengths) {
      const url = `/v1/coupons?${"x".repeat(length)}${encodeURIComponent(pair)}=1`;
      expectRefused(await callRest(replica.httpPort, { verb: "GET", url, body: undefined }));
    }
  });
});

describe("half of a character", () => {
  const bodies: [string, DescMethodUnary, string][] = [
    ["in the name of a field", createCoupon, '{"\\ud800x":1}'],
    ["in the name of a field of a coupon", updateCoupon, '{"coupon":{"x\\udc00":1}}'],
    ["in the key of a label", issueCoupon, `{"couponId":"${someId}","userId":"u","labels":{"\\ud800":"v"}}`],
    ["in the value of a label", issueCoupon, `{"couponId":"${someId}","userId":"u","labels":{"k":"\\udfff"}}`],
    ["in a text", createCoupon, '{"coupon":{"name":"\\ud83d","expireTime":"2100-01-01T00:00:00Z"}}'],
    ["in a word of an enum", createCoupon, '{"coupon":{"discount":"\\ud83d"}}'],
    ["in a number", createCoupon, '{"coupon":{"quantity":"\\ud83d"}}'],
    ["in a time", createCoupon, '{"coupon":{"expireTime":"\\ud83d"}}'],
  ];
  for (const [way, send] of jsonWays) {
    test.for(bodies)(`%s, by ${way}`, async ([, method, json]) => {
      expectRefused(await send(method, json));
    });
  }

  const masks = ["\\ud83d", "a_\\ud83d", `${"a".repeat(398)}\\ud83d`];
  test.for(jsonWays.slice(0, 2))("in the path of a mask, by %s", async ([, send]) => {
    for (const mask of masks) {
      expectRefused(await send(updateCoupon, `{"coupon":{"id":"${someId}"},"updateMask":"${mask}"}`));
    }
  });

  test.for(byteWays)("in bytes, where it is no UTF-8, by %s", async ([, send]) => {
    const bytes = Buffer.from(masked("aaa"));
    Buffer.from([0xed, 0xa0, 0x80]).copy(bytes, bytes.length - 3);
    expectRefused(await send(updateCoupon, bytes));
  });
});

describe("a text that is longer than what any client reads of an error", () => {
  const characters = ["k", "%", "\u0001", "é", "€", pair];
  /** As much as there is room for in an ordinary message: 64 KiB. */
  const filled = (one: string, bytes = 62_000) => one.repeat(Math.floor(bytes / Buffer.byteLength(one)));
  const sizes = [1_000, 8_000, 20_000, 40_000, 62_000];

  test.for(byteWays)("the key of a label, by %s", async ([, send]) => {
    for (const one of characters) {
      for (const size of sizes) expectRefused(await send(issueCoupon, labelled(filled(one, size))));
    }
  });

  test.for(byteWays)("the paths of a mask, by %s", async ([, send]) => {
    for (const one of characters) {
      expectRefused(await send(updateCoupon, masked(filled(one))));
      const paths = Array.from({ length: 20 }, (_, index) => `${index}${filled(one, 3_000)}`);
      expectRefused(await send(updateCoupon, masked(...paths)));
    }
  });

  /** As JSON has it: control characters are escaped, and take six bytes. */
  const inJson = characters.map((one) => filled(one, one < " " ? 10_000 : 62_000));
  test.for(jsonWays)("the name of a field, and the key of a label, by %s", async ([, send]) => {
    for (const text of inJson) {
      expectRefused(await send(createCoupon, JSON.stringify({ [text]: 1 })));
      expectRefused(await send(updateCoupon, JSON.stringify({ coupon: { [text]: 1 } })));
      expectRefused(
        await send(issueCoupon, JSON.stringify({ couponId: someId, userId: "u", labels: { [text]: "v" } })),
      );
    }
  });

  test.for(jsonWays)("twenty names of fields, by %s", async ([, send]) => {
    for (const text of inJson) {
      const names = Array.from({ length: 20 }, (_, index) =>
        `${index}${text.slice(0, text.length / 21)}`.toWellFormed(),
      );
      const answer = await send(createCoupon, JSON.stringify(Object.fromEntries(names.map((name) => [name, 1]))));
      expectRefused(answer);
      expect(answer.fields).toHaveLength(20);
    }
  });

  test("the name of a parameter, and the value of one", async () => {
    for (const one of characters) {
      const text = encodeURIComponent(
        filled(one, Math.floor(7_000 / (encodeURIComponent(one).length / Buffer.byteLength(one)))),
      );
      for (const query of [`${text}=1`, `page_token=${text}`, `page_size=${text}`]) {
        expectRefused(await callRest(replica.httpPort, { verb: "GET", url: `/v1/coupons?${query}`, body: undefined }));
      }
    }
  });
});

test("after all of it, the server has had no fault of its own", async () => {
  const faults = replica
    .log()
    .split("\n")
    .filter((line) => line.includes("call failed") || line.includes("could not be sent"));
  expect(faults).toEqual([]);
});
