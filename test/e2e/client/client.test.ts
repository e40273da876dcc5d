import { connect, createServer, type Socket } from "node:net";
import { durationFromMs, timestampFromMs } from "@bufbuild/protobuf/wkt";
import { beforeAll, describe, expect, test } from "vitest";
import {
  type CouponClient,
  createCouponClient,
  isRefusal,
  money,
  newRequestId,
  pages,
  refusalOf,
  StatusCode,
} from "../../../clients/typescript/src/node.js";
import { createCouponClient as createWebClient } from "../../../clients/typescript/src/web.js";
import { atEndOfFile } from "../../support/at-end.js";
import type { Replica } from "../../support/replica.js";
import { type Backing, oneReplica } from "../../support/service.js";
import { until } from "../../support/until.js";

const timeoutMs = 25_000;
let around: Backing & { replica: Replica };
let clients: Record<string, CouponClient>;

const atEnd = atEndOfFile();
beforeAll(async () => {
  around = await oneReplica(atEnd);
  const { grpcPort, httpPort } = around.replica;
  const [grpc, http] = [grpcPort, httpPort].map((port) => ({ baseUrl: `http://127.0.0.1:${port}`, timeoutMs }));
  if (!grpc || !http) throw new Error("no ports");
  clients = {
    "gRPC from Node": createCouponClient(grpc),
    "gRPC from Node on the other port": createCouponClient(http),
    "Connect from Node": createCouponClient({ ...http, protocol: "connect" }),
    "gRPC-Web from Node": createCouponClient({ ...http, protocol: "grpc-web" }),
    "Connect by fetch": createWebClient(http),
    "gRPC-Web by fetch": createWebClient({ ...http, protocol: "grpc-web" }),
  };
  atEnd(async () => {
    for (const client of Object.values(clients)) client.close();
  });
});

const ways = [
  ...["gRPC from Node", "gRPC from Node on the other port", "Connect from Node", "gRPC-Web from Node"],
  ...["Connect by fetch", "gRPC-Web by fetch"],
];

function couponOf(quantity: bigint) {
  return {
    name: "Ten dollars off",
    discount: { kind: { case: "fixedAmount", value: money("10", "USD") } },
    expireTime: timestampFromMs(Date.now() + 3_600_000),
    quantity,
  } as const;
}

describe.for(ways)("%s", (way) => {
  test("issues, and says why not", async () => {
    const client = clients[way] as CouponClient;
    const { coupon } = await client.catalog.createCoupon({ coupon: couponOf(1n) });
    const target = { case: "couponId", value: coupon?.id as string } as const;
    const requestId = newRequestId();
    const first = await client.issuance.issueCoupon({ target, userId: "ann", requestId });
    expect(first.userCoupon).toMatchObject({ userId: "ann", couponId: coupon?.id });
    const again = await client.issuance.issueCoupon({ target, userId: "ann", requestId });
    expect([again.replayed, again.userCoupon?.id]).toEqual([true, first.userCoupon?.id]);
    const refused = await client.issuance.issueCoupon({ target, userId: "bob" }).catch((error: unknown) => error);
    expect(isRefusal(refused, "SOLD_OUT")).toBe(true);
    expect(isRefusal(refused, "ALREADY_ISSUED")).toBe(false);
    expect(refusalOf(refused)).toMatchObject({ code: StatusCode.FailedPrecondition, fieldViolations: [] });
    const wrong = await client.catalog.createCoupon({ coupon: {} }).catch(refusalOf);
    expect(wrong).toMatchObject({ reason: "INVALID_FIELD", retryAfterMs: undefined });
    expect(wrong).toHaveProperty("fieldViolations.length", 3);
  });

  test("follows events until it leaves the loop, and hears why a stream was refused", async () => {
    const { events } = clients[way] as CouponClient;
    let ends = false;
    for await (const { cursor } of events.watchEvents({ heartbeatInterval: durationFromMs(1_000) })) {
      expect(cursor).not.toBe("");
      if (ends) break;
      ends = true;
    }
    await until("the stream is gone", async () => (await watchers()) === 0);
    const refused = await all(events.watchEvents({ cursor: "none", fromBeginning: true })).catch((error) => error);
    expect(isRefusal(refused, "INVALID_FIELD")).toBe(true);
  });
});

async function all<T>(stream: AsyncIterable<T>): Promise<T[]> {
  const list: T[] = [];
  for await (const one of stream) list.push(one);
  return list;
}

async function watchers(): Promise<number> {
  const metrics = await (await fetch(`http://127.0.0.1:${around.replica.httpPort}/metrics`)).text();
  return Number(/^coupon_watchers (\d+)/m.exec(metrics)?.[1]);
}

test("a stream outlasts the deadline of other calls, and has the one that it is given", async () => {
  const { grpcPort } = around.replica;
  const { events, close } = createCouponClient({ baseUrl: `http://127.0.0.1:${grpcPort}`, timeoutMs: 500 });
  atEnd(async () => close());
  let messages = 0;
  for await (const _ of events.watchEvents({ heartbeatInterval: durationFromMs(1_000) })) {
    messages += 1;
    if (messages === 2) break;
  }
  const timed = all(events.watchEvents({}, { timeoutMs: 200 }));
  await expect(timed).rejects.toMatchObject({ code: StatusCode.DeadlineExceeded });
});

test("a connection whose other end is gone without a word is given up, and the calls go over another one", async () => {
  const sockets: Socket[] = [];
  const gone = new Set<Socket>();
  const between = createServer((socket) => {
    const onward = connect(around.replica.grpcPort, "127.0.0.1");
    sockets.push(socket, onward);
    for (const [from, to] of [
      [socket, onward],
      [onward, socket],
    ] as const) {
      from.on("error", () => {}).on("close", () => to.destroy());
      from.on("data", (part) => !gone.has(socket) && to.write(part));
    }
  });
  await new Promise<void>((resolve) => between.listen(0, "127.0.0.1", resolve));
  atEnd(async () => {
    between.close();
    for (const socket of sockets) socket.destroy();
  });
  const { port } = between.address() as { port: number };
  const client = createCouponClient({ baseUrl: `http://127.0.0.1:${port}`, timeoutMs });
  atEnd(async () => client.close());
  await client.catalog.listCoupons({ pageSize: 1 });
  expect(sockets).toHaveLength(2);
  gone.add(sockets[0] as Socket);
  await client.catalog.listCoupons({ pageSize: 1 });
  expect(sockets).toHaveLength(4);
});

const cuts = (["grpc", "connect", "grpc-web"] as const).flatMap((protocol) =>
  (["reset", "closed"] as const).map((how) => [protocol, how] as const),
);

test.for(cuts)("a call by %s whose connection is %s under way is made over another one", async ([protocol, how]) => {
  const port = protocol === "grpc" ? around.replica.grpcPort : around.replica.httpPort;
  const sockets: Socket[] = [];
  let isToBeCut = false;
  const between = createServer((socket) => {
    const onward = connect(port, "127.0.0.1");
    sockets.push(socket);
    onward.on("error", () => {}).pipe(socket);
    socket.on("error", () => {}).on("close", () => onward.destroy());
    socket.on("data", (part) => {
      if (!isToBeCut) return onward.write(part);
      isToBeCut = false;
      return how === "reset" ? socket.resetAndDestroy() : socket.destroy();
    });
  });
  await new Promise<void>((resolve) => between.listen(0, "127.0.0.1", resolve));
  atEnd(async () => void between.close());
  const baseUrl = `http://127.0.0.1:${(between.address() as { port: number }).port}`;
  const client = createCouponClient({ baseUrl, protocol, timeoutMs });
  atEnd(async () => client.close());
  const { coupon } = await client.catalog.createCoupon({ coupon: couponOf(1n) });
  isToBeCut = true;
  const target = { case: "couponId", value: coupon?.id as string } as const;
  expect((await client.issuance.issueCoupon({ target, userId: "ann" })).userCoupon?.userId).toBe("ann");
  expect(sockets).toHaveLength(2);
});

test("calls that the client's own end cuts off are not tried again", async () => {
  for (const [protocol, port] of [
    ["grpc", around.replica.grpcPort] as const,
    ["connect", around.replica.httpPort] as const,
  ]) {
    const client = createCouponClient({ baseUrl: `http://127.0.0.1:${port}`, protocol, timeoutMs });
    const throttle = { maxConcurrent: 1, maxPerSecond: 1, maxWait: durationFromMs(20_000) };
    const { coupon } = await client.catalog.createCoupon({ coupon: { ...couponOf(9n), throttle } });
    const target = { case: "couponId", value: coupon?.id as string } as const;
    const calls = Array.from({ length: 8 }, (_, i) => client.issuance.issueCoupon({ target, userId: `ann-${i}` }));
    const ends = Promise.allSettled(calls);
    await Promise.race(calls);
    client.close();
    expect((await ends).filter(({ status }) => status === "rejected").length).toBeGreaterThan(0);
  }
});

test("a handshake that comes to no end is given up, and begun anew", async () => {
  const sockets: Socket[] = [];
  const silent = createServer((socket) => sockets.push(socket.on("error", () => {})));
  await new Promise<void>((resolve) => silent.listen(0, "127.0.0.1", resolve));
  const { port } = silent.address() as { port: number };
  const client = createCouponClient({ baseUrl: `https://127.0.0.1:${port}`, timeoutMs });
  const call = client.catalog.listCoupons({}).catch((error: unknown) => error);
  await until("another connection", () => sockets.length === 2);
  client.close();
  for (const socket of sockets) socket.destroy();
  silent.close();
  expect(await call).toBeInstanceOf(Error);
});

test("all pages are gone through", async () => {
  const client = clients["gRPC from Node"] as CouponClient;
  const { coupon } = await client.catalog.createCoupon({ coupon: { ...couponOf(10n), maxPerUser: 10 } });
  const target = { case: "couponId", value: coupon?.id as string } as const;
  for (let i = 0; i < 5; i += 1) await client.issuance.issueCoupon({ target, userId: "paged" });
  const ids = new Set<string>();
  for await (const { id } of pages(client.userCoupons.listUserCoupons, { userId: "paged", pageSize: 2 })) ids.add(id);
  expect(ids.size).toBe(5);
});
