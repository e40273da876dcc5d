import { setTimeout as pause } from "node:timers/promises";
import { durationFromMs, timestampFromMs } from "@bufbuild/protobuf/wkt";
import { CatalogService } from "../../gen/coupon/v1/catalog_service_pb.js";
import { type CouponLock, UsageService } from "../../gen/coupon/v1/usage_service_pb.js";
import { CallError, type GrpcClient } from "../support/clients.js";
import type { Audit } from "./crowd.js";

const unavailable = 14;
const deadlineExceeded = 4;
/** A server says how long to wait; a test waits no longer than this, for its outages are short. */
const longestRetryPauseMs = 250;
const callTimeoutMs = 8_000;
/** Far above the longest outage of a test. */
const giveUpAfterMs = 45_000;

/** How much of a race is run: 1 is the whole of it, as it is run now and then; without it, enough to see most faults. */
export const scale = Number(process.env.FAULT_SCALE ?? 0);

/** The size of something at the chosen scale. */
export function sized(small: number, whole: number): number {
  return scale > 0 ? Math.ceil(whole * scale) : small;
}

export interface Holding {
  readonly userId: string;
  readonly userCouponId: string;
}

/** What one call is about; the order's id and the request id are its own. */
export interface Purchase extends Holding {
  readonly orderId: string;
  readonly requestId: string;
  readonly lockVersion?: bigint;
}

export async function createCappedCoupon(
  client: GrpcClient,
  fields: { usageCap?: number; maxUses?: number; maxPerUser?: number; lockMs?: number },
): Promise<string> {
  const { coupon } = await client.call(CatalogService.method.createCoupon, {
    coupon: {
      name: "Ten percent",
      discount: { kind: { case: "percentageBasisPoints", value: 1_000 } },
      startTime: timestampFromMs(Date.now() - 60_000),
      expireTime: timestampFromMs(Date.now() + 3_600_000),
      maxUses: fields.maxUses ?? 1,
      maxPerUser: fields.maxPerUser ?? 1,
      ...(fields.usageCap !== undefined && { usageCap: BigInt(fields.usageCap) }),
      ...(fields.lockMs !== undefined && { lockDuration: durationFromMs(fields.lockMs) }),
    },
  });
  if (!coupon) throw new Error("no coupon was created");
  return coupon.id;
}

const orderAmount = { currencyCode: "USD", minorUnits: 1_000n };

function chosen({ userCouponId, lockVersion = 0n }: Pick<Purchase, "userCouponId" | "lockVersion">) {
  return [{ target: { case: "userCouponId" as const, value: userCouponId }, lockVersion }];
}

export async function lockOnce(client: GrpcClient, holding: Holding, orderId: string): Promise<CouponLock> {
  const { userId } = holding;
  const coupons = chosen(holding);
  const { locks } = await client.call(UsageService.method.lockCoupons, { userId, coupons, orderId });
  return locks[0] as CouponLock;
}

/** The usage's id. */
export async function useOnce(client: GrpcClient, purchase: Purchase, timeoutMs = callTimeoutMs): Promise<string> {
  const { userId, orderId, requestId } = purchase;
  const { usages } = await client.call(
    UsageService.method.useCoupons,
    { userId, coupons: chosen(purchase), productId: "ride", orderId, orderAmount, requestId },
    { timeoutMs },
  );
  return usages[0]?.id ?? "";
}

export function cancelOnce(client: GrpcClient, userId: string, usageId: string) {
  return client.call(UsageService.method.cancelUsage, { userId, usageId }, { timeoutMs: callTimeoutMs });
}

/** "OK" or the reason of the refusal. */
export async function outcomeOf(call: Promise<unknown>): Promise<string> {
  try {
    await call;
    return "OK";
  } catch (error) {
    if (error instanceof CallError) return error.reason ?? `code ${error.code}`;
    throw error;
  }
}

/** What became of purchases that were each retried until they were told yes or no. */
export interface Purchased {
  /** The usage's id by the order's. */
  readonly usages: Map<string, string>;
  readonly refused: Map<string, Purchase[]>;
  /** Passing failures that were met on the way, by `code reason`. */
  readonly passing: Map<string, number>;
}

export interface PurchaseOptions {
  /** Taken in turn; a retry goes to the next one. */
  readonly clients: readonly GrpcClient[];
  readonly inFlight: number;
  /** How long one try may take; a good deal shorter than the whole. */
  readonly timeoutMs?: number;
  /** Called after each yes, with how many there are. */
  readonly onUsed?: (count: number) => void;
}

/** Uses everything in the list, as many at once as told. Retries what the contract says may be retried. */
export async function purchaseAll(list: readonly Purchase[], options: PurchaseOptions): Promise<Purchased> {
  const result: Purchased = { usages: new Map(), refused: new Map(), passing: new Map() };
  await eachOf(list, options.inFlight, (purchase, at) => buy(purchase, at, options, result));
  return result;
}

async function buy(purchase: Purchase, at: number, options: PurchaseOptions, result: Purchased): Promise<void> {
  const { clients, onUsed, timeoutMs } = options;
  const giveUpAtMs = Date.now() + giveUpAfterMs;
  for (let attempt = 0; ; attempt++) {
    try {
      const client = clients[(at + attempt) % clients.length] as GrpcClient;
      result.usages.set(purchase.orderId, await useOnce(client, purchase, timeoutMs));
      onUsed?.(result.usages.size);
      return;
    } catch (error) {
      if (!(error instanceof CallError)) throw error;
      if (error.code !== unavailable && error.code !== deadlineExceeded) {
        const reason = error.reason ?? `code ${error.code}`;
        result.refused.set(reason, [...(result.refused.get(reason) ?? []), purchase]);
        return;
      }
      if (Date.now() > giveUpAtMs) throw new Error(`gave up on ${purchase.orderId}`, { cause: error });
      const kind = `${error.code} ${error.reason}`;
      result.passing.set(kind, (result.passing.get(kind) ?? 0) + 1);
      await pause(Math.min(error.retryDelayMs ?? 50, longestRetryPauseMs));
    }
  }
}

/** Does something for each in a list, as many at once as told. */
export async function eachOf<T>(
  list: readonly T[],
  inFlight: number,
  act: (item: T, index: number) => Promise<void>,
): Promise<void> {
  let next = 0;
  const worker = async () => {
    for (let at = next++; at < list.length; at = next++) await act(list[at] as T, at);
  };
  await Promise.all(Array.from({ length: inFlight }, worker));
}

export interface StoredUses {
  readonly usedCount: number;
  readonly placeCount: number;
  readonly exhausted: boolean;
  /** Usages that stand, and all that were made. */
  readonly standing: number;
  readonly made: number;
  /** Sums over the user coupons. */
  readonly useCounts: number;
  readonly placeCounts: number;
  /** User coupons whose own counter is not the number of their usages that stand, or is past what they may be used. */
  readonly wrong: number;
  readonly revoked: number;
  /** Events of uses and of cancellations. */
  readonly useEvents: number;
  readonly cancelEvents: number;
  /** Usages that have more than one event of their cancellation. */
  readonly cancelledTwice: number;
}

/** What Postgres has of one coupon's uses. */
export async function storedUses(audit: Audit, couponId: string): Promise<StoredUses> {
  const sql = audit.connection();
  const [row] = await sql<[StoredUses]>`
    WITH made AS (
      SELECT user_coupon_id, count(*) AS made, count(*) FILTER (WHERE cancelled_at IS NULL) AS standing
      FROM usages WHERE coupon_id = ${couponId} GROUP BY user_coupon_id
    ), logged AS (
      SELECT kind, usage_id, count(*) AS times FROM events
      WHERE coupon_id = ${couponId} AND usage_id IS NOT NULL GROUP BY kind, usage_id
    )
    SELECT c.used_count::int AS "usedCount", c.place_count::int AS "placeCount", c.exhausted_at IS NOT NULL AS exhausted,
      held.*,
      (SELECT coalesce(sum(times), 0)::int FROM logged WHERE kind = 'USER_COUPON_USED') AS "useEvents",
      (SELECT coalesce(sum(times), 0)::int FROM logged WHERE kind = 'USAGE_CANCELLED') AS "cancelEvents",
      (SELECT count(*)::int FROM logged WHERE kind = 'USAGE_CANCELLED' AND times > 1) AS "cancelledTwice"
    FROM coupons c, LATERAL (
      SELECT coalesce(sum(m.standing), 0)::int AS standing, coalesce(sum(m.made), 0)::int AS made,
        coalesce(sum(u.use_count), 0)::int AS "useCounts", coalesce(sum(u.place_count), 0)::int AS "placeCounts",
        count(*) FILTER (
          WHERE u.use_count <> coalesce(m.standing, 0) OR u.use_count > u.max_uses OR u.use_count > u.place_count
        )::int AS wrong,
        count(*) FILTER (WHERE user_coupon_status(u, c, coupon_clock()) = 'REVOKED')::int AS revoked
      FROM user_coupons u LEFT JOIN made m ON m.user_coupon_id = u.id WHERE u.coupon_id = c.id
    ) held
    WHERE c.id = ${couponId}`;
  return row;
}

/** Of what callers were told, what Postgres does not have. Must be empty. */
export async function lostUsages(audit: Audit, couponId: string, { usages }: Purchased): Promise<string[]> {
  const rows = await audit.connection()`SELECT id, order_id FROM usages WHERE coupon_id = ${couponId}`;
  const stored = new Map(rows.map((row) => [row.order_id as string, row.id as string]));
  return [...usages].filter(([orderId, id]) => stored.get(orderId) !== id).map(([orderId]) => orderId);
}

/** Orders that have a usage although the last word to them was no. Must be empty. */
export async function refusedButUsed(audit: Audit, couponId: string, { refused }: Purchased): Promise<string[]> {
  const rows = await audit.connection()`SELECT order_id FROM usages WHERE coupon_id = ${couponId}`;
  const stored = new Set(rows.map((row) => row.order_id as string));
  return [...refused.values()].flat().flatMap(({ orderId }) => (stored.has(orderId) ? [orderId] : []));
}
