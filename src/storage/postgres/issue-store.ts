import type { TransactionSql } from "postgres";
import { expiryOf, type UserCoupon } from "../../domain/user-coupon.js";
import type { Ask, GateFacts, Holder } from "../../reservation/port.js";
import type { IssueOutcome, IssueStore, Stock } from "../ports.js";
import type { Database } from "./database.js";
import { guarded } from "./errors.js";

/** Work that serves many callers has no deadline of its own but the one every query has. */
const noDeadlineMs = Number.POSITIVE_INFINITY;

/** Holders read at once while a coupon is loaded into the reservation layer. */
const holderPageSize = 500;
/** How often a batch is tried while another transaction at the same moment uses the request id of one of its rows. */
const conflictAttempts = 3;

interface IssuedRow {
  outcome: "ISSUED" | "REPLAYED" | "CONFLICT" | (IssueOutcome & { kind: "REFUSED" })["reason"];
  id: string;
  issuedAtMs: number;
  validUntilMs: number | null;
  expiresAtMs: number;
  claimUntilMs: number | null;
  maxUses: number;
}

export class PostgresIssueStore implements IssueStore {
  constructor(private readonly database: Database) {}

  async issueBatch(asks: readonly Ask[], again = false): Promise<IssueOutcome[]> {
    let rows = await this.issueOnce(asks, again);
    for (let attempt = 2; attempt <= conflictAttempts && rows.some((row) => row.outcome === "CONFLICT"); attempt++) {
      rows = await this.issueOnce(asks, true);
    }
    return rows.map((row, index) => toOutcome(row, asks[index] as Ask));
  }

  async findIssued(
    userCouponIds: readonly string[],
  ): Promise<Map<string, { validUntil: Date | null; isHeld: boolean }>> {
    const rows = await guarded(
      noDeadlineMs,
      () => this.database.sql<{ id: string; validUntil: Date | null; isHeld: boolean }[]>`
        SELECT id, valid_until, deleted_at IS NULL AND released_at IS NULL AS is_held
        FROM user_coupons WHERE id = ANY (${[...userCouponIds]}::uuid[])`,
    );
    return new Map(rows.map(({ id, ...rest }) => [id, rest]));
  }

  async readGate(couponId: string, onHolders: (holders: Holder[]) => Promise<boolean>): Promise<GateFacts | null> {
    const { sql } = this.database;
    // Waits for an edit under way; the snapshot below then sees what it did.
    await guarded(noDeadlineMs, () => sql`SELECT FROM coupons WHERE id = ${couponId} FOR SHARE`);
    try {
      return await sql.begin("ISOLATION LEVEL REPEATABLE READ READ ONLY", (tx) =>
        readSnapshot(tx, couponId, onHolders),
      );
    } catch (error) {
      return await guarded(noDeadlineMs, () => Promise.reject(error));
    }
  }

  async readStock(couponIds: readonly string[]): Promise<Map<string, Stock>> {
    const rows = await guarded(
      noDeadlineMs,
      () => this.database.sql<(Stock & { id: string })[]>`
        SELECT id, revision, quantity - issued_count AS remaining, usage_cap - place_count AS remaining_places
        FROM coupons WHERE id = ANY (${[...couponIds]}::uuid[])`,
    );
    return new Map(rows.map(({ id, ...stock }) => [id, stock]));
  }

  private issueOnce(asks: readonly Ask[], again: boolean): Promise<IssuedRow[]> {
    const { commitSql } = this.database;
    return guarded(
      noDeadlineMs,
      () => commitSql<IssuedRow[]>`
        SELECT * FROM issue_user_coupons(
          ${asks.map((ask) => ask.userCouponId)}::uuid[],
          ${asks.map((ask) => ask.couponId)}::uuid[],
          ${asks.map((ask) => ask.userId)}::text[],
          ${asks.map((ask) => ask.requestId || null)}::text[],
          ${again})`,
    );
  }
}

function toOutcome(row: IssuedRow, ask: Ask): IssueOutcome {
  const { outcome, id } = row;
  if (outcome === "REPLAYED") return { kind: "REPLAYED", userCouponId: id };
  if (outcome === "CONFLICT") throw new Error("a request id stayed in conflict");
  if (outcome !== "ISSUED") return { kind: "REFUSED", reason: outcome };
  const userCoupon: UserCoupon = {
    id,
    couponId: ask.couponId,
    userId: ask.userId,
    issuedAt: new Date(row.issuedAtMs),
    validUntil: row.validUntilMs === null ? null : new Date(row.validUntilMs),
    maxUses: row.maxUses,
    useCount: 0,
    placeCount: 0,
    lockedUntil: null,
    claimUntil: row.claimUntilMs === null ? null : new Date(row.claimUntilMs),
    releasedAt: null,
  };
  return { kind: "ISSUED", userCoupon, expiresAt: expiryOf(userCoupon, { expiresAt: new Date(row.expiresAtMs) }) };
}

interface HolderRow {
  userId: string;
  id: string;
  requestId: string | null;
  validUntil: Date | null;
}

async function readSnapshot(
  tx: TransactionSql,
  couponId: string,
  onHolders: (holders: Holder[]) => Promise<boolean>,
): Promise<GateFacts | null> {
  const [facts] = await tx<GateFacts[]>`
    SELECT revision, starts_at, expires_at, paused_at IS NOT NULL AS paused, deleted_at IS NOT NULL AS deleted,
      exhausted_at IS NOT NULL AS exhausted, max_per_user, quantity - issued_count AS remaining
    FROM coupons WHERE id = ${couponId}`;
  if (!facts) return null;

  // The last user of a page may go on in the next one. Expired holders are among them: they are counted as issued, and
  // a repeated request of theirs is still a repeated one.
  let held: Holder[] = [];
  const pages = tx<HolderRow[]>`
    SELECT user_id, id, request_id, valid_until FROM user_coupons
    WHERE coupon_id = ${couponId} AND slot IS NOT NULL
    ORDER BY user_id`.cursor(holderPageSize);
  for await (const page of pages) {
    const last = page.at(-1)?.userId;
    const holders = [...held, ...page.map(toHolder)];
    held = holders.filter((holder) => holder.userId === last);
    if (!(await onHolders(holders.filter((holder) => holder.userId !== last)))) return null;
  }
  if (held.length > 0 && !(await onHolders(held))) return null;
  return facts;
}

function toHolder({ userId, id, requestId, validUntil }: HolderRow): Holder {
  return { userId, userCouponId: id, requestId: requestId ?? "", validUntil };
}
