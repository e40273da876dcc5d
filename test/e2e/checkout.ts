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
import type { Sql } from "postgres";
import { ErrorReason } from "../../gen/coupon/v1/error_reason_pb.js";
import type { Usage } from "../../gen/coupon/v1/usage_pb.js";
import {
  type CouponLock,
  type QuoteUsageResponse,
  UsageService,
  type UseCouponsResponse,
} from "../../gen/coupon/v1/usage_service_pb.js";
import type { UserCoupon } from "../../gen/coupon/v1/user_coupon_pb.js";
import { UserCouponService } from "../../gen/coupon/v1/user_coupon_service_pb.js";
import type { GrpcClient } from "../support/clients.js";
import { type Answer, pathOf, readConnect } from "./front-ends.js";

export const usd = (minorUnits: number, currencyCode = "USD") => ({ currencyCode, minorUnits: BigInt(minorUnits) });

/** A user coupon, alone or with the version of the lock that is held on it. */
export type Chosen = string | { readonly id: string; readonly lockVersion: bigint };

export interface OrderInit {
  readonly userId: string;
  readonly coupons: readonly Chosen[];
  readonly productId?: string;
  readonly orderId?: string;
  /** Minor units of US dollars, or an amount; null: not known yet. */
  readonly amount?: number | ReturnType<typeof usd> | null;
  readonly requestId?: string;
}

/** What quote, lock and use take. An order id that is not given is a new one. */
export function orderMessage({ userId, coupons, productId, orderId, amount = 10_000 }: OrderInit) {
  return {
    userId,
    coupons: choices(coupons),
    productId: productId ?? "ride",
    orderId: orderId ?? randomUUID(),
    ...(amount !== null && { orderAmount: typeof amount === "number" ? usd(amount) : amount }),
  };
}

function choices(coupons: readonly Chosen[]) {
  return coupons.map((chosen) => {
    const { id, lockVersion } = typeof chosen === "string" ? { id: chosen, lockVersion: 0n } : chosen;
    return { target: { case: "userCouponId" as const, value: id }, lockVersion };
  });
}

export function quote(client: GrpcClient, order: OrderInit): Promise<QuoteUsageResponse> {
  return client.call(UsageService.method.quoteUsage, orderMessage(order));
}

export async function lock(client: GrpcClient, order: OrderInit): Promise<CouponLock[]> {
  const { requestId = "" } = order;
  return (await client.call(UsageService.method.lockCoupons, { ...orderMessage(order), requestId })).locks;
}

export async function lockOne(client: GrpcClient, order: OrderInit): Promise<CouponLock> {
  return (await lock(client, order))[0] as CouponLock;
}

/** The ids of the user coupons whose locks were ended. */
export async function unlock(client: GrpcClient, userId: string, coupons: readonly Chosen[]): Promise<string[]> {
  const { unlockCoupons } = UsageService.method;
  return (await client.call(unlockCoupons, { userId, coupons: choices(coupons) })).userCouponIds;
}

export function use(client: GrpcClient, order: OrderInit): Promise<UseCouponsResponse> {
  const { requestId = "" } = order;
  return client.call(UsageService.method.useCoupons, { ...orderMessage(order), requestId });
}

export async function useOne(client: GrpcClient, order: OrderInit): Promise<Usage> {
  return (await use(client, order)).usages[0] as Usage;
}

export async function cancel(client: GrpcClient, userId: string, usageId: string, requestId = ""): Promise<Usage> {
  const { cancelUsage } = UsageService.method;
  return (await client.call(cancelUsage, { userId, usageId, requestId })).usage as Usage;
}

export async function read(client: GrpcClient, userId: string, userCouponId: string): Promise<UserCoupon> {
  const { getUserCoupon } = UserCouponService.method;
  return (await client.call(getUserCoupon, { userId, userCouponId })).userCoupon as UserCoupon;
}

/** The names of a quote's objections, one list for each user coupon. */
export function objectionsOf({ quotes }: QuoteUsageResponse): string[][] {
  return quotes.map(({ objections }) => objections.map(({ reason }) => ErrorReason[reason]));
}

/** JSON over HTTP; throws an Answer when it is refused. */
export async function callJson<M extends DescMethodUnary>(
  httpPort: number,
  method: M,
  request: MessageInitShape<M["input"]>,
): Promise<MessageShape<M["output"]>> {
  const response = await fetch(`http://127.0.0.1:${httpPort}${pathOf(method)}`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify(toJson(method.input, create(method.input, request) as never)),
  });
  if (!response.ok) throw await readConnect(response);
  return fromJson(method.output, (await response.json()) as JsonValue) as never;
}

/** What became of a call of callJson. */
export const answerOfJson = (call: Promise<unknown>): Promise<Answer> =>
  call.then(
    () => ({ code: "OK", fields: [], preconditions: [], message: "" }),
    (answer: Answer) => answer,
  );

/** Everything that is stored of some coupons and may be changed by using. */
export async function storedOf(sql: Sql, couponIds: readonly string[]): Promise<unknown> {
  const ids = [...couponIds];
  return {
    coupons: await sql`SELECT id, issued_count, used_count, place_count, exhausted_at FROM coupons
      WHERE id = ANY (${ids}::uuid[]) ORDER BY id`,
    userCoupons: await sql`SELECT * FROM user_coupons WHERE coupon_id = ANY (${ids}::uuid[]) ORDER BY id`,
    usages: await sql`SELECT * FROM usages WHERE coupon_id = ANY (${ids}::uuid[]) ORDER BY id`,
    events: (await sql`SELECT count(*)::int AS count FROM events WHERE coupon_id = ANY (${ids}::uuid[])`)[0]?.count,
  };
}

/** What must hold of every coupon at all times. Names what does not; must be empty. */
export async function imbalances(sql: Sql, couponIds: readonly string[]): Promise<unknown[]> {
  const rows = await sql`
    WITH used AS (
      SELECT user_coupon_id, count(*) AS made, count(*) FILTER (WHERE cancelled_at IS NULL) AS standing
      FROM usages WHERE coupon_id = ANY (${[...couponIds]}::uuid[]) GROUP BY user_coupon_id
    )
    SELECT 'coupon' AS what, c.id, c.used_count, c.place_count, c.issued_count, u.*
    FROM coupons c, LATERAL (
      SELECT coalesce(sum(s.standing), 0) AS standing, coalesce(sum(h.place_count), 0) AS places,
        count(*) FILTER (WHERE h.use_count <> coalesce(s.standing, 0) OR h.place_count < h.use_count) AS wrong,
        (SELECT count(*) FROM events e WHERE e.coupon_id = c.id AND e.kind = 'USER_COUPON_USED') AS use_events,
        (SELECT count(*) FROM events e WHERE e.coupon_id = c.id AND e.kind = 'USAGE_CANCELLED') AS cancel_events,
        coalesce(sum(s.made), 0) AS made
      FROM user_coupons h LEFT JOIN used s ON s.user_coupon_id = h.id WHERE h.coupon_id = c.id
    ) u
    WHERE c.id = ANY (${[...couponIds]}::uuid[]) AND (
      c.used_count <> u.standing OR c.place_count <> u.places OR u.wrong > 0 OR c.place_count > c.usage_cap
      OR u.use_events <> u.made OR u.cancel_events <> u.made - u.standing
    )`;
  return [...rows];
}
