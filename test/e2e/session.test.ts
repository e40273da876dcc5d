import { randomUUID } from "node:crypto";
import {
  create,
  type DescMethodUnary,
  fromJson,
  type JsonValue,
  type MessageInitShape,
  type MessageShape,
  toJson,
} from "@bufbuild/protobuf";
import { ConnectError, type Transport } from "@connectrpc/connect";
import {
  compressionGzip,
  createConnectTransport,
  createGrpcTransport,
  createGrpcWebTransport,
} from "@connectrpc/connect-node";
import { afterAll, describe, expect, test } from "vitest";
import { CatalogService } from "../../gen/coupon/v1/catalog_service_pb.js";
import { IssuanceService } from "../../gen/coupon/v1/issuance_service_pb.js";
import { UsageService } from "../../gen/coupon/v1/usage_service_pb.js";
import { UserCouponStatus } from "../../gen/coupon/v1/user_coupon_pb.js";
import { UserCouponService } from "../../gen/coupon/v1/user_coupon_service_pb.js";
import { BadRequestSchema, ErrorInfoSchema, PreconditionFailureSchema } from "../../gen/google/rpc/error_details_pb.js";
import { CallError } from "../support/clients.js";
import { oneReplica } from "../support/service.js";
import { pathOf, readConnect } from "./front-ends.js";
import { createSample, issued, sampleCoupon } from "./samples.js";

type Call = <M extends DescMethodUnary>(
  method: M,
  request: MessageInitShape<M["input"]>,
) => Promise<MessageShape<M["output"]>>;

const { replica } = await oneReplica(afterAll);

const over =
  (transport: () => Transport): Call =>
  async (method, request) =>
    (await transport().unary(method, undefined, 10_000, undefined, request as never)).message as never;

const callFetch: Call = async (method, request) => {
  const response = await fetch(`http://127.0.0.1:${replica.httpPort}${pathOf(method)}`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify(toJson(method.input, create(method.input, request) as never)),
  });
  if (!response.ok) throw await readConnect(response);
  return fromJson(method.output, (await response.json()) as JsonValue) as never;
};

const http = () => `http://127.0.0.1:${replica.httpPort}`;
const gzip = { sendCompression: compressionGzip, acceptCompression: [compressionGzip], compressMinBytes: 0 };

/** Each way to the service; made when it is used, for the ports are known only then. */
const ways: [string, Call][] = [
  ["native gRPC, grpc-js", (method, request) => replica.client.call(method, request)],
  ["native gRPC, connect-node", over(() => createGrpcTransport({ baseUrl: `http://127.0.0.1:${replica.grpcPort}` }))],
  ["gRPC on the HTTP port", over(() => createGrpcTransport({ baseUrl: http() }))],
  ["gRPC on the HTTP port with gzip", over(() => createGrpcTransport({ baseUrl: http(), ...gzip }))],
  ["JSON with fetch", callFetch],
  ["Connect binary, HTTP/1.1", over(() => createConnectTransport({ baseUrl: http(), httpVersion: "1.1" }))],
  ["Connect binary, HTTP/2", over(() => createConnectTransport({ baseUrl: http(), httpVersion: "2" }))],
  [
    "Connect JSON, HTTP/2",
    over(() => createConnectTransport({ baseUrl: http(), httpVersion: "2", useBinaryFormat: false })),
  ],
  ["Connect binary with gzip", over(() => createConnectTransport({ baseUrl: http(), httpVersion: "1.1", ...gzip }))],
  [
    "Connect, reading with GET",
    over(() => createConnectTransport({ baseUrl: http(), httpVersion: "1.1", useHttpGet: true })),
  ],
  ["gRPC-Web, HTTP/1.1", over(() => createGrpcWebTransport({ baseUrl: http(), httpVersion: "1.1" }))],
  ["gRPC-Web, HTTP/2", over(() => createGrpcWebTransport({ baseUrl: http(), httpVersion: "2" }))],
  [
    "gRPC-Web JSON",
    over(() => createGrpcWebTransport({ baseUrl: http(), httpVersion: "1.1", useBinaryFormat: false })),
  ],
  ["gRPC-Web with gzip", over(() => createGrpcWebTransport({ baseUrl: http(), httpVersion: "1.1", ...gzip }))],
];

/** The preconditions of a refusal, in the words of any of the clients: "coupons[1] LOCKED". */
async function against(call: Promise<unknown>): Promise<readonly string[]> {
  try {
    await call;
    return [];
  } catch (error) {
    if (!(error instanceof ConnectError)) return (error as CallError).preconditions;
    const failures = error.findDetails(PreconditionFailureSchema);
    return failures.flatMap(({ violations }) => violations.map(({ type, subject }) => `${subject} ${type}`));
  }
}

/** What a client is told, in the words of any of the clients. */
async function told(call: Promise<unknown>) {
  try {
    await call;
    return { code: 0 };
  } catch (error) {
    if (error instanceof CallError) return { code: error.code, reason: error.reason, fields: error.fields };
    if (error instanceof ConnectError) {
      const [info] = error.findDetails(ErrorInfoSchema);
      const [badRequest] = error.findDetails(BadRequestSchema);
      return {
        code: error.code as number,
        reason: info?.reason,
        fields: badRequest?.fieldViolations.map(({ field }) => field) ?? [],
      };
    }
    const { code, reason, fields } = error as { code: string; reason: string; fields: string[] };
    return {
      code: { INVALID_ARGUMENT: 3, NOT_FOUND: 5, ALREADY_EXISTS: 6, FAILED_PRECONDITION: 9 }[code],
      reason,
      fields,
    };
  }
}

describe.for(ways)("%s", ([, call]) => {
  test("a session: create, issue, list, get", async () => {
    const userId = `user ${randomUUID()}`;
    const { coupon } = await call(CatalogService.method.createCoupon, {
      coupon: sampleCoupon({ quantity: 2n, category: "ünï" }),
    });
    const couponId = coupon?.id as string;
    const request = { target: { case: "couponId", value: couponId }, userId, requestId: randomUUID() } as const;
    const first = await call(IssuanceService.method.issueCoupon, request);
    expect(first.replayed).toBe(false);
    expect(await call(IssuanceService.method.issueCoupon, request)).toEqual({ ...first, replayed: true });

    const after = { ...coupon, issuedCount: 1n, remainingCount: 1n };
    expect((await call(CatalogService.method.getCoupon, { couponId })).coupon).toEqual(after);
    const page = await call(CatalogService.method.listCoupons, { pageSize: 1 });
    expect(page.coupons).toEqual([after]);
    const held = { ...first.userCoupon, coupon: after };
    const { userCoupons } = await call(UserCouponService.method.listUserCoupons, { userId });
    expect(userCoupons).toEqual([held]);
    const { userCoupon } = await call(UserCouponService.method.getUserCoupon, {
      userId,
      userCouponId: first.userCoupon?.id as string,
    });
    expect(userCoupon).toEqual(held);
    expect(userCoupon?.status).toBe(UserCouponStatus.READY);

    expect(await told(call(IssuanceService.method.issueCoupon, { ...request, requestId: "" }))).toEqual({
      code: 6,
      reason: "ALREADY_ISSUED",
      fields: [],
    });
    await call(CatalogService.method.pauseCoupon, { couponId });
    expect(
      await told(call(IssuanceService.method.issueCoupon, { ...request, requestId: "", userId: "other" })),
    ).toEqual({
      code: 9,
      reason: "COUPON_PAUSED",
      fields: [],
    });
    const { coupon: deleted } = await call(CatalogService.method.deleteCoupon, { couponId, revokeIssued: true });
    expect(deleted?.revision).toBe(3n);
    expect(await told(call(CatalogService.method.getCoupon, { couponId: randomUUID() }))).toEqual({
      code: 5,
      reason: "COUPON_NOT_FOUND",
      fields: [],
    });
    expect(await told(call(CatalogService.method.getCoupon, { couponId: "x" }))).toEqual({
      code: 3,
      reason: "INVALID_FIELD",
      fields: ["coupon_id"],
    });
  });
});

describe.for(ways)("%s", ([, call]) => {
  const { quoteUsage, lockCoupons, unlockCoupons, useCoupons, cancelUsage, getUsage, listUsages } = UsageService.method;
  const { getUserCoupon, listUserCoupons, deleteUserCoupon } = UserCouponService.method;

  test("a checkout: quote, lock, unlock, use, cancel, list, delete", async () => {
    const userId = `user ${randomUUID()}`;
    const held = [];
    for (const stackable of [true, false]) {
      const { id } = await createSample(replica.client, { stackable, claimWindow: { seconds: 600n } });
      held.push(await issued(replica.client, id, userId));
    }
    const [one, other] = held.map(({ id }) => id) as [string, string];
    const choose = (id: string, lockVersion = 0n) => ({
      target: { case: "userCouponId" as const, value: id },
      lockVersion,
    });
    const order = {
      ...{ userId, productId: "meal", orderId: "ünï 🎟", coupons: [choose(one)] },
      orderAmount: { currencyCode: "EUR", minorUnits: 999n },
    };
    const both = { ...order, coupons: [choose(one), choose(other, 7n)] };
    const quoted = await call(quoteUsage, both);
    expect(quoted.usable).toBe(false);
    expect(quoted.quotes.map(({ objections }) => objections.length)).toEqual([0, 2]);
    for (const method of [lockCoupons, useCoupons]) {
      expect(await against(call(method, both))).toEqual(["coupons[1] LOCK_LOST", "coupons[1] NOT_STACKABLE"]);
    }

    const { locks } = await call(lockCoupons, order);
    expect(await told(call(useCoupons, order))).toEqual({ code: 9, reason: "LOCKED", fields: [] });
    const lockVersion = locks[0]?.lockVersion as bigint;
    const locked = { userId, coupons: [choose(one, lockVersion)] };
    expect((await call(unlockCoupons, locked)).userCouponIds).toEqual([one]);
    expect((await call(unlockCoupons, locked)).userCouponIds).toEqual([]);

    const request = { ...order, requestId: randomUUID() };
    const used = await call(useCoupons, request);
    expect(used).toMatchObject({ discountAmount: { minorUnits: 99n }, finalAmount: { minorUnits: 900n } });
    expect(await call(useCoupons, request)).toEqual({ ...used, replayed: true });
    const usage = used.usages[0];
    const usageId = usage?.id as string;
    expect((await call(getUsage, { userId, usageId })).usage).toEqual(usage);
    expect((await call(listUsages, { userId })).usages).toEqual([usage]);
    const cancelled = (await call(cancelUsage, { userId, usageId })).usage;
    expect(cancelled?.cancelTime).toBeDefined();
    expect((await call(listUsages, { userId })).usages).toEqual([]);
    expect((await call(listUsages, { userId, showCancelled: true })).usages).toEqual([cancelled]);

    const { userCoupon } = await call(getUserCoupon, { userId, userCouponId: one });
    expect(userCoupon).toMatchObject({ status: UserCouponStatus.READY, useCount: 0, usages: [cancelled] });
    const listed = await call(listUserCoupons, { userId, showUsages: true });
    expect(listed.userCoupons[1]).toEqual(userCoupon);
    expect(await call(deleteUserCoupon, { userId, userCouponId: other, restock: true })).toMatchObject({
      restocked: true,
    });
    expect((await call(listUserCoupons, { userId })).userCoupons.map(({ id }) => id)).toEqual([one]);
  });
});

test("every way reads the same", async () => {
  const { id: couponId } = await createSample(replica.client, { quantity: 10n, description: "d" });
  const { id: userCouponId } = await issued(replica.client, couponId, "reader");
  const seen = await Promise.all(
    ways.map(async ([, call]) => [
      await call(CatalogService.method.getCoupon, { couponId }),
      await call(UserCouponService.method.getUserCoupon, { userId: "reader", userCouponId }),
      await call(UserCouponService.method.listUserCoupons, { userId: "reader" }),
    ]),
  );
  for (const one of seen) expect(one).toEqual(seen[0]);
});

test("JSON as a person reads it", async () => {
  const post = async (path: string, body: object) => {
    const response = await fetch(`${http()}/coupon.v1.${path}`, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify(body),
    });
    return { status: response.status, body: (await response.json()) as Record<string, unknown> };
  };
  const expireTime = new Date(Date.now() + 3_600_000).toISOString();
  const created = await post("CatalogService/CreateCoupon", {
    coupon: {
      name: "Ten",
      discount: { percentageBasisPoints: 1000 },
      expireTime,
      quantity: "1",
      validityAfterIssue: "90s",
    },
  });
  expect(created.status).toBe(200);
  const coupon = created.body.coupon as Record<string, unknown>;
  expect(coupon).toMatchObject({
    name: "Ten",
    discount: { percentageBasisPoints: 1000 },
    quantity: "1",
    remainingCount: "1",
    validityAfterIssue: "90s",
    maxPerUser: 1,
    state: "COUPON_STATE_ACTIVE",
    revision: "1",
  });
  expect(new Date(coupon.expireTime as string).toISOString()).toBe(expireTime);
  const ask = { couponId: coupon.id, userId: "anna" };
  const { body } = await post("IssuanceService/IssueCoupon", ask);
  expect(body.userCoupon).toMatchObject({ couponId: coupon.id, userId: "anna", status: "USER_COUPON_STATUS_READY" });
  const soldOut = await post("IssuanceService/IssueCoupon", { ...ask, userId: "bert" });
  expect(soldOut).toMatchObject({
    status: 400,
    body: {
      code: "failed_precondition",
      details: [{ type: "google.rpc.ErrorInfo", debug: { reason: "SOLD_OUT", domain: "coupon.v1" } }],
    },
  });
});
