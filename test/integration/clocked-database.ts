import { randomUUID } from "node:crypto";
import postgres, { type Sql } from "postgres";
import { type Database, openDatabase } from "../../src/storage/postgres/database.js";
import { createStores, type TestStores } from "../support/stores.js";

/** A database whose clock stands still until a test moves it, and a connection past the program's own. */
export interface ClockedDatabase {
  readonly stores: TestStores;
  readonly database: Database;
  readonly sql: Sql;
  now(): Promise<Date>;
  setClock(at: Date): Promise<void>;
  close(): Promise<void>;
}

export async function openClockedDatabase(at: Date, poolSize = 24): Promise<ClockedDatabase> {
  const stores = await createStores();
  const sql = postgres(stores.databaseUrl, { max: 4, onnotice: () => {} });
  await sql.unsafe(`
    CREATE TABLE test_clock (at timestamptz NOT NULL);
    INSERT INTO test_clock VALUES ('${at.toISOString()}');
    CREATE OR REPLACE FUNCTION coupon_clock() RETURNS timestamptz LANGUAGE sql VOLATILE AS 'SELECT at FROM test_clock'`);
  const database = openDatabase({ url: stores.databaseUrl, poolSize });
  return {
    stores,
    database,
    sql,
    now: async () => (await sql`SELECT coupon_clock() AS now`)[0]?.now,
    setClock: async (now) => void (await sql`UPDATE test_clock SET at = ${now}`),
    close: async () => {
      await database.close();
      await sql.end();
      await stores.drop();
    },
  };
}

/** A coupon's row as a test wants it, past every rule of the program but the table's own constraints. */
export interface CouponFacts {
  readonly id?: string;
  readonly startsAt: Date;
  readonly expiresAt: Date;
  readonly quantity: number | null;
  readonly issuedCount: number;
  readonly maxPerUser: number;
  readonly validityAfterIssueMs: number | null;
  readonly pausedAt: Date | null;
  readonly deletedAt: Date | null;
  readonly revokedAt: Date | null;
  readonly exhaustedAt: Date | null;
  readonly usageCap: number | null;
  readonly usedCount: number;
  readonly placeCount: number;
  readonly maxUses: number;
  readonly lockDurationMs: number;
  readonly claimWindowMs: number | null;
}

export function openCoupon(now: Date, changed: Partial<CouponFacts> = {}): CouponFacts {
  return {
    startsAt: new Date(now.getTime() - 3_600_000),
    expiresAt: new Date(now.getTime() + 3_600_000),
    quantity: 10,
    issuedCount: 0,
    maxPerUser: 1,
    validityAfterIssueMs: null,
    pausedAt: null,
    deletedAt: null,
    revokedAt: null,
    exhaustedAt: null,
    usageCap: null,
    usedCount: 0,
    placeCount: 0,
    maxUses: 1,
    lockDurationMs: 300_000,
    claimWindowMs: null,
    ...changed,
  };
}

export async function insertCoupon(sql: Sql, facts: CouponFacts): Promise<string> {
  const id = facts.id ?? randomUUID();
  await sql`
    INSERT INTO coupons (id, name, description, category, percentage_basis_points, starts_at, expires_at, quantity,
      issued_count, max_per_user, validity_after_issue_ms, paused_at, deleted_at, revoked_at, exhausted_at, usage_cap,
      used_count, place_count, max_uses, lock_duration_ms, claim_window_ms, stackable, created_at, updated_at)
    VALUES (${id}, 'a coupon', '', '', 1000, ${facts.startsAt}, ${facts.expiresAt}, ${facts.quantity},
      ${facts.issuedCount}, ${facts.maxPerUser}, ${facts.validityAfterIssueMs}, ${facts.pausedAt}, ${facts.deletedAt},
      ${facts.revokedAt}, ${facts.exhaustedAt}, ${facts.usageCap}, ${facts.usedCount}, ${facts.placeCount},
      ${facts.maxUses}, ${facts.lockDurationMs}, ${facts.claimWindowMs}, false, ${facts.startsAt}, ${facts.startsAt})`;
  return id;
}

export interface HolderFacts {
  readonly id?: string;
  readonly couponId: string;
  readonly userId: string;
  readonly slot: number | null;
  readonly requestId: string | null;
  readonly validUntil: Date | null;
  readonly maxUses?: number;
  readonly useCount?: number;
  /** Without it as many as uses. */
  readonly placeCount?: number;
  readonly lockedUntil?: Date | null;
  readonly lockVersion?: number;
  readonly lockToken?: string | null;
  readonly claimUntil?: Date | null;
  readonly releasedAt?: Date | null;
  readonly deletedAt?: Date | null;
}

/** In one statement, for there may be thousands. */
export async function insertHolders(sql: Sql, holders: readonly HolderFacts[], issuedAt: Date): Promise<void> {
  if (holders.length === 0) return;
  const rows = holders.map((holder) => ({
    id: holder.id ?? randomUUID(),
    coupon_id: holder.couponId,
    user_id: holder.userId,
    slot: holder.slot,
    request_id: holder.requestId,
    issued_at: issuedAt,
    valid_until: holder.validUntil,
    max_uses: holder.maxUses ?? 1,
    use_count: holder.useCount ?? 0,
    place_count: holder.placeCount ?? holder.useCount ?? 0,
    locked_until: holder.lockedUntil ?? null,
    lock_version: holder.lockVersion ?? 0,
    lock_token: holder.lockToken ?? null,
    claim_until: holder.claimUntil ?? null,
    released_at: holder.releasedAt ?? null,
    deleted_at: holder.deletedAt ?? null,
    lapse_at:
      holder.deletedAt || holder.releasedAt || (holder.useCount ?? 0) >= (holder.maxUses ?? 1)
        ? null
        : holder.validUntil,
    gone_at: (holder.placeCount ?? holder.useCount) ? null : (holder.deletedAt ?? holder.releasedAt ?? null),
  }));
  await sql`INSERT INTO user_coupons ${sql(rows)}`;
}
