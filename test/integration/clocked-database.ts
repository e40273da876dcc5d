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
      // A test that failed may have left something open.
      await sql.end({ timeout: 5 });
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

export interface HoldingFacts {
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
export async function insertHoldings(sql: Sql, holdings: readonly HoldingFacts[], issuedAt: Date): Promise<void> {
  if (holdings.length === 0) return;
  const rows = holdings.map((holding) => ({
    id: holding.id ?? randomUUID(),
    coupon_id: holding.couponId,
    user_id: holding.userId,
    slot: holding.slot,
    request_id: holding.requestId,
    issued_at: issuedAt,
    valid_until: holding.validUntil,
    max_uses: holding.maxUses ?? 1,
    use_count: holding.useCount ?? 0,
    place_count: holding.placeCount ?? holding.useCount ?? 0,
    locked_until: holding.lockedUntil ?? null,
    lock_version: holding.lockVersion ?? 0,
    lock_token: holding.lockToken ?? null,
    claim_until: holding.claimUntil ?? null,
    released_at: holding.releasedAt ?? null,
    deleted_at: holding.deletedAt ?? null,
    lapse_at:
      holding.deletedAt || holding.releasedAt || (holding.useCount ?? 0) >= (holding.maxUses ?? 1)
        ? null
        : holding.validUntil,
    gone_at: (holding.placeCount ?? holding.useCount) ? null : (holding.deletedAt ?? holding.releasedAt ?? null),
  }));
  await sql`INSERT INTO user_coupons ${sql(rows)}`;
}
