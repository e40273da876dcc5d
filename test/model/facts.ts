import type { Sql } from "postgres";
import { inOrder } from "./catalogue.js";
import type { Model } from "./model.js";
import type { CouponType } from "./state.js";
import { dayMs, dayOf } from "./world.js";

/** One line for each row, and for each event. */
export interface Stored {
  readonly coupons: string[];
  readonly userCoupons: string[];
  readonly usages: string[];
  readonly codes: string[];
  readonly quotas: string[];
  readonly events: string[];
  /** What administrators did, when, and of which revision: two who pause a coupon at once are told the same. */
  readonly records: string[];
}

/** In a crowd, one lock may be asked for twice at once: that is one change, whether it is told of once or twice. */
function changes(events: readonly string[]): string[] {
  const isRepeated = (event: string, index: number) => /LOCKED/.test(event) && events.indexOf(event) < index;
  return events.filter((event, index) => !isRepeated(event, index)).sort();
}

export function factsOf(model: Model): Stored {
  const { coupons, userCoupons, usages, codes, issuedOnDay, events, records, now } = model.state;
  const byId = <T extends { id: string }>(all: readonly T[]) => [...all].sort((a, b) => (a.id < b.id ? -1 : 1));
  const line = (...values: unknown[]) => values.map((value) => value ?? "-").join(" ");
  return {
    coupons: byId(coupons).map((one) => {
      const used = userCoupons
        .filter(({ couponId }) => couponId === one.id)
        .reduce((sum, held) => sum + model.standing(held).length, 0);
      const times = [one.exhaustedAt, one.pausedAt, one.deletedAt, one.revokedAt];
      const also = [model.quantityOf(one), one.type, one.updatedAt];
      return line(one.id, one.revision, one.issuedCount, used, model.placesTaken(one), ...times, ...also);
    }),
    userCoupons: byId(userCoupons).map((one) => {
      const uses = model.standing(one).length;
      const locked = model.isLocked(one) && one.deletedAt === null ? one.lock.until : null;
      const times = [locked, one.claimUntil, one.releasedAt, one.deletedAt];
      const also = [one.code, one.countedExpired];
      return line(
        one.id,
        one.userId,
        uses,
        one.places,
        one.maxUses,
        one.validUntil,
        one.lock.version,
        locked === null ? null : one.lock.orderId || null,
        ...times,
        ...also,
      );
    }),
    usages: byId(usages).map((one) =>
      line(one.id, one.userCouponId, one.orderId, one.amount.units, one.discount, one.cancelledAt),
    ),
    codes: inOrder(codes).map((one) =>
      line(one.code, one.couponId, one.holders, one.maxHolders, one.maxUses, one.expiresAt, one.outOfStockAt),
    ),
    quotas: Object.entries(issuedOnDay)
      .filter(([key]) => key.endsWith(` ${dayOf(now)}`))
      .map(([key, count]) => line(key.slice(0, key.lastIndexOf(" ")), count))
      .sort(),
    events: changes(events),
    records: records
      .map(({ method, requestId, targetId, before, at }) => {
        const { coupon } = (before ?? {}) as { coupon?: { revision: number } };
        return line(method, requestId || null, targetId || null, coupon?.revision, at);
      })
      .sort(),
  };
}

/** What is stored, which is all of one life, in the form of `factsOf`. `caller`: who has called in this life alone. */
export async function storedOf(sql: Sql, now: number, caller: string): Promise<Stored> {
  const [couponRows, userCouponRows, usageRows, codeRows, quotaRows, eventRows, recordRows] = await Promise.all([
    sql`SELECT id, revision::int, issued_count::int, used_count::int, place_count::int, millis(exhausted_at)::text AS exhausted_at,
          millis(paused_at)::text AS paused_at, millis(deleted_at)::text AS deleted_at, millis(revoked_at)::text AS revoked_at,
          quantity::int, type, millis(updated_at)::text AS updated_at
        FROM coupons ORDER BY id`,
    sql`SELECT id, user_id, use_count, place_count, max_uses, millis(valid_until)::text AS valid_until, lock_version,
          CASE WHEN locked_until > ${new Date(now)} THEN nullif(split_part(lock_order, ' ', 2), '') END AS lock_order,
          millis(CASE WHEN locked_until > ${new Date(now)} THEN locked_until END)::text AS locked_until,
          millis(claim_until)::text AS claim_until, millis(released_at)::text AS released_at, millis(deleted_at)::text AS deleted_at, code, lapsed
        FROM user_coupons ORDER BY id`,
    sql`SELECT id, user_coupon_id, order_id, order_amount::int, discount_amount::int, millis(cancelled_at)::text AS cancelled_at
        FROM usages ORDER BY id`,
    sql`SELECT code, coupon_id, holder_count, max_holders, max_uses, millis(expires_at)::text AS expires_at, millis(retired_at)::text AS retired_at
        FROM codes ORDER BY coupon_id, id`,
    sql`SELECT quota_group || ' ' || user_id AS who, issued_count FROM quota_days
        WHERE issued_count > 0 AND day = ${new Date(dayOf(now) * dayMs).toISOString().slice(0, 10)}::text::date ORDER BY who`,
    sql`SELECT kind, coupon_id, user_coupon_id, usage_id, detail->>'lockVersion' AS version,
          millis((detail->>'lockedUntil')::timestamptz)::text AS until, detail->>'restocked' AS restocked,
          millis(happened_at)::text AS at
        FROM events WHERE kind NOT LIKE '%PURGED'`,
    // The pool of a type may have been made by any of several calls for it.
    sql`SELECT method, CASE WHEN method = 'upload' AND after ? 'coupon' THEN NULL ELSE nullif(caller_request_id, '') END AS request_id,
          target_id, before -> 'coupon' ->> 'revision' AS revision, millis(happened_at)::text AS at
        FROM audit_records WHERE principal = ${caller} AND outcome = 'OK'`,
  ]);
  const values = (rows: readonly object[]) =>
    rows.map((row) =>
      Object.values(row)
        .map((value) => (value === null ? "-" : String(value)))
        .join(" "),
    );
  const events = eventRows.map((row) =>
    Object.values(row)
      .filter((value) => value !== null)
      .join(" "),
  );
  return {
    coupons: values(couponRows),
    userCoupons: values(userCouponRows),
    usages: values(usageRows),
    codes: values(codeRows),
    quotas: values(quotaRows),
    events: changes(events),
    records: values(recordRows).sort(),
  };
}

export async function openTypePools(sql: Sql): Promise<{ id: string; type: CouponType }[]> {
  return await sql`SELECT id, type FROM coupons WHERE is_pool AND deleted_at IS NULL`;
}

/** By user coupon. */
export async function lockVersions(sql: Sql): Promise<Map<string, number>> {
  const rows = await sql<{ id: string; version: string }[]>`
    SELECT id, lock_version AS version FROM user_coupons WHERE lock_version > 0`;
  return new Map(rows.map(({ id, version }) => [id, Number(version)]));
}

/** The lines that only one of both has. */
export function differences(stored: Stored, expected: Stored): string[] {
  const names = Object.keys(expected) as (keyof Stored)[];
  return names.flatMap((name) => {
    const [is, should] = [stored[name], expected[name]];
    if (JSON.stringify(is) === JSON.stringify(should)) return [];
    const lines = [
      ...is.filter((line) => !should.includes(line)).map((line) => `${name}, is:     ${line}`),
      ...should.filter((line) => !is.includes(line)).map((line) => `${name}, should: ${line}`),
    ];
    return lines.length > 0 ? lines : [`${name}: in another order, or as often: ${is.join(", ")}`];
  });
}
