import { randomUUID } from "node:crypto";
import type { Sql } from "postgres";
import { expect } from "vitest";
import { Refusal } from "../../src/domain/refusal.js";
import type { Usage } from "../../src/domain/usage.js";
import type { RequestKey } from "../../src/storage/ports/page.js";
import type { LockRequest, LockResult, UsageStore, UseRequest } from "../../src/storage/ports/usages.js";
import { miscounted } from "../support/counted-stats.js";
import { type HoldingFacts, insertHoldings } from "./clocked-database.js";

/** A user coupon, as asks name it. */
export interface Held {
  readonly couponId: string;
  readonly userCouponId: string;
  readonly userId: string;
}

/** Inserts a user coupon that is counted as issued. */
export async function hold(
  sql: Sql,
  couponId: string,
  issuedAt: Date,
  facts: Partial<HoldingFacts> & { readonly userId?: string } = {},
): Promise<Held> {
  const { userId = `user-${randomUUID()}` } = facts;
  const userCouponId = facts.id ?? randomUUID();
  const holding = { couponId, slot: 1, requestId: null, validUntil: null, ...facts, userId, id: userCouponId };
  await insertHoldings(sql, [holding], issuedAt);
  await sql`
    UPDATE coupons c SET issued_count = c.issued_count + 1, issued_total = c.issued_total + 1,
      deleted_total = c.deleted_total + (u.deleted_at IS NOT NULL)::int,
      released_total = c.released_total + (u.released_at IS NOT NULL)::int,
      used_up_count = c.used_up_count + (held.yes AND u.use_count >= u.max_uses)::int,
      placed_holder_count = c.placed_holder_count + (held.yes AND u.place_count > 0)::int
    FROM user_coupons u CROSS JOIN LATERAL (SELECT u.deleted_at IS NULL AND u.released_at IS NULL AS yes) held
    WHERE c.id = ${couponId} AND u.id = ${userCouponId}`;
  return { couponId, userCouponId, userId };
}

export function useRequestOf(held: Held, changed: Partial<UseRequest> = {}): UseRequest {
  return {
    ...held,
    usageId: randomUUID(),
    revision: 1,
    lockVersion: 0,
    productId: "product",
    orderId: `order ${randomUUID()}`,
    orderAmount: { currencyCode: "USD", minorUnits: 10_000 },
    discountAmount: 1_000,
    // As insertCoupon() makes them.
    facts: { code: null, couponType: null, couponName: "a coupon" },
    orderMark: "",
    discountedBefore: 0,
    requestId: "",
    item: 0,
    placeTaken: false,
    ...changed,
  };
}

/** Several user coupons in one order. */
export function orderOf(helds: readonly Held[], changed: Partial<UseRequest> = {}): UseRequest[] {
  const orderId = `order ${randomUUID()}`;
  return helds.map((held, item) => useRequestOf(held, { orderId, ...changed, item }));
}

export function lockRequestOf(held: Held, changed: Partial<LockRequest> = {}): LockRequest {
  return { ...held, lockVersion: 0, orderId: "", token: randomUUID(), ...changed };
}

/** Cancels one usage, as the service does; without a request the call has a name of its own. */
export async function cancelOne(
  store: UsageStore,
  { userId, usageId, request }: { userId: string; usageId: string; request: RequestKey | null },
): Promise<{ usage: Usage; freed: boolean } | Refusal> {
  const named = request ?? { requestId: randomUUID(), inputHash: new Uint8Array() };
  const [result] = await store.cancelBatch([{ userId, usageId, request: named }], false);
  if (result?.outcome !== "CANCELLED") return new Refusal(result?.reason ?? "INTERNAL");
  return { usage: result.usage, freed: result.freed };
}

/** The version of a lock that must have been granted. */
export function versionOf(result: LockResult | undefined): number {
  if (result?.outcome !== "GRANTED") throw new Error(`not granted: ${result?.outcome}`);
  return result.lock.version;
}

export interface StoredUserCoupon {
  readonly useCount: number;
  readonly placeCount: number;
  readonly lockedUntil: Date | null;
  readonly lockVersion: number;
  readonly claimUntil: Date | null;
  readonly releasedAt: Date | null;
  readonly deletedAt: Date | null;
}

export async function readUserCoupon(sql: Sql, { userCouponId }: Held): Promise<StoredUserCoupon> {
  const [row] = await sql<StoredUserCoupon[]>`
    SELECT use_count AS "useCount", place_count AS "placeCount", locked_until AS "lockedUntil",
      lock_version AS "lockVersion", claim_until AS "claimUntil", released_at AS "releasedAt",
      deleted_at AS "deletedAt"
    FROM user_coupons WHERE id = ${userCouponId}`;
  return { ...(row as StoredUserCoupon), lockVersion: Number(row?.lockVersion) };
}

export interface StoredCoupon {
  readonly issuedCount: number;
  readonly usedCount: number;
  readonly placeCount: number;
  readonly exhaustedAt: Date | null;
}

export async function readCoupon(sql: Sql, couponId: string): Promise<StoredCoupon> {
  const [row] = await sql<StoredCoupon[]>`
    SELECT issued_count::int AS "issuedCount", used_count::int AS "usedCount", place_count::int AS "placeCount",
      exhausted_at AS "exhaustedAt"
    FROM coupons WHERE id = ${couponId}`;
  return { ...(row as StoredCoupon) };
}

/** How often each kind of event is on record for a coupon. */
export async function countEvents(sql: Sql, couponId: string): Promise<Record<string, number>> {
  const rows = await sql`SELECT kind, count(*)::int AS n FROM events WHERE coupon_id = ${couponId} GROUP BY kind`;
  return Object.fromEntries(rows.map(({ kind, n }) => [kind, n]));
}

/** Every counter equals the count of what it counts, in the whole database. */
export async function expectCounted(sql: Sql): Promise<void> {
  const coupons = await sql`
    SELECT c.id, c.used_count, c.place_count, c.issued_count, standing.n AS used, held.places, held.issued,
      exhausted.n AS exhaustions
    FROM coupons c
    CROSS JOIN LATERAL (
      SELECT count(*) AS n FROM usages s WHERE s.coupon_id = c.id AND s.cancelled_at IS NULL
    ) standing
    CROSS JOIN LATERAL (
      SELECT coalesce(sum(u.place_count), 0) AS places, count(*) FILTER (
        WHERE u.released_at IS NULL AND NOT EXISTS (
          SELECT FROM events e WHERE e.user_coupon_id = u.id AND e.kind = 'USER_COUPON_DELETED' AND e.detail -> 'restocked' = 'true'
        )
      ) AS issued FROM user_coupons u WHERE u.coupon_id = c.id
    ) held
    CROSS JOIN LATERAL (
      SELECT count(*) AS n FROM events e WHERE e.coupon_id = c.id AND e.kind = 'COUPON_EXHAUSTED'
    ) exhausted
    WHERE c.used_count <> standing.n OR c.place_count <> held.places OR c.issued_count <> held.issued
      OR exhausted.n <> CASE WHEN c.exhausted_at IS NULL THEN 0 ELSE 1 END`;
  expect([...coupons]).toEqual([]);
  const userCoupons = await sql`
    SELECT u.id, u.use_count, standing.n FROM user_coupons u
    CROSS JOIN LATERAL (
      SELECT count(*) AS n FROM usages s WHERE s.user_coupon_id = u.id AND s.cancelled_at IS NULL
    ) standing
    WHERE u.use_count <> standing.n`;
  expect([...userCoupons]).toEqual([]);
  expect(await miscounted(sql)).toEqual([]);
}
