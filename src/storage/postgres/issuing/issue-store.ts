import type { TransactionSql } from "postgres";
import type { Discount } from "../../../domain/coupon.js";
import { expiryOf, type UserCoupon } from "../../../domain/user-coupon.js";
import { SharedReads } from "../../../platform/shared-reads.js";
import type { GateFacts } from "../../../reservation/port.js";
import type { IssueRequest, IssueResult, IssueStore, StoredCounts } from "../../ports/issues.js";
import { type DeadlineMs, noDeadlineMs } from "../../ports/page.js";
import { lockingCoupons } from "../coupons/held-coupons.js";
import type { Database } from "../database.js";
import { guarded } from "../errors.js";
import { patienceOf } from "../patience.js";
import { TurnBatch } from "../turn-batch.js";
import { SortRoom } from "./bucket-sort.js";
import { type OnHoldings, type ReadBounds, readGateSnapshot } from "./read-gate.js";

/** Coupons in one query of the store at most. */
const maxGroupItems = 500;
/** How often a batch is tried while another transaction at the same moment uses the request id of one of its rows. */
const conflictAttempts = 3;
/** Of loads. Postgres finds and packs so many holdings in some 20 ms; the bytes are those of a million. */
const defaultReadBounds = { rowsAtOnce: 10_000, maxBytes: 64 * 1024 * 1024 };

interface IssuedRow {
  outcome:
    | "ISSUED"
    | "REPLAYED"
    | "CONFLICT"
    | "BEHIND"
    | "TICKET_NEEDED"
    | "TOO_LATE"
    | "OTHER_TYPE"
    | (IssueResult & { outcome: "REFUSED" })["reason"];
  id: string;
  issuedAtMs: number;
  validUntilMs: number | null;
  expiresAtMs: number;
  claimUntilMs: number | null;
  maxUses: number;
  code: string | null;
  discount: Discount | null;
}

export class PostgresIssueStore implements IssueStore {
  private readonly quotaGroups = new TurnBatch<string, string | null | undefined>({
    maxItems: maxGroupItems,
    run: (couponIds) => this.readQuotaGroups(couponIds),
  });

  private readonly stocks = new SharedReads<string, number | null>(async (couponId) => {
    const rows = await this.database.reads.run(
      noDeadlineMs,
      ({ sql }) => sql<{ stock: number | null }[]>`
        SELECT quantity - issued_count AS stock FROM coupons WHERE id = ${couponId}`,
    );
    return rows[0]?.stock ?? null;
  });

  private readonly readBounds: ReadBounds;

  constructor(
    private readonly database: Database,
    /** Where a quota's days begin: a name of the IANA time zone database. */
    private readonly quotaTimeZone = "UTC",
    { rowsAtOnce, maxBytes } = defaultReadBounds,
  ) {
    this.readBounds = { rowsAtOnce, room: new SortRoom(maxBytes) };
  }

  async issueBatch(requests: readonly IssueRequest[], again = false): Promise<IssueResult[]> {
    const rows = await lockingCoupons(this.database, requests, () => this.issueOnce(requests, again));
    let conflicts = 0;
    // Those that are behind another request move up each time, for what is decided is not asked again; so this ends.
    for (let tries = 1; tries <= requests.length + conflictAttempts; tries++) {
      if (rows.some(({ outcome }) => outcome === "CONFLICT")) conflicts += 1;
      const open = [...rows.keys()].filter((index) => {
        const { outcome } = rows[index] as IssuedRow;
        return outcome === "BEHIND" || (outcome === "CONFLICT" && conflicts < conflictAttempts);
      });
      if (open.length === 0) break;
      const next = await this.issueOnce(
        open.map((index) => requests[index] as IssueRequest),
        true,
      );
      for (const [at, index] of open.entries()) rows[index] = next[at] as IssuedRow;
    }
    return rows.map((row, index) => toIssueResult(row, requests[index] as IssueRequest));
  }

  quotaGroupOf(couponId: string): Promise<string | null | undefined> {
    return this.quotaGroups.add(couponId);
  }

  async findIssued(
    userCouponIds: readonly string[],
  ): Promise<Map<string, { validUntil: Date | null; isHeld: boolean }>> {
    const rows = await this.database.background.run(
      noDeadlineMs,
      ({ sql }) => sql<{ id: string; validUntil: Date | null; isHeld: boolean }[]>`
        SELECT id, valid_until, deleted_at IS NULL AND released_at IS NULL AS is_held
        FROM user_coupons WHERE id = ANY (${[...userCouponIds]}::uuid[])`,
    );
    return new Map(rows.map(({ id, ...rest }) => [id, rest]));
  }

  async readGate(couponId: string, onHoldings: OnHoldings): Promise<GateFacts | null> {
    const { background } = this.database;
    // Waits for an edit under way; the snapshot below then sees what it did.
    await background.run(noDeadlineMs, ({ sql }) => sql`SELECT FROM coupons WHERE id = ${couponId} FOR SHARE`);
    const inTransaction = <T>(work: (tx: TransactionSql) => Promise<T>) =>
      background.run(
        noDeadlineMs,
        ({ sql }) => sql.begin("ISOLATION LEVEL REPEATABLE READ READ ONLY", work) as Promise<T>,
        noDeadlineMs,
      );
    return await readGateSnapshot(inTransaction, couponId, onHoldings, this.readBounds);
  }

  readStock(couponId: string, deadlineMs: DeadlineMs): Promise<number | null> {
    return guarded(deadlineMs, () => this.stocks.read(couponId));
  }

  async readCounts(couponIds: readonly string[]): Promise<Map<string, StoredCounts>> {
    const rows = await this.database.background.run(
      noDeadlineMs,
      ({ sql }) => sql<(StoredCounts & { id: string })[]>`
        SELECT id, revision, updated_at, quantity - issued_count AS stock, usage_cap - place_count AS remaining_places,
          released_total + deleted_total AS given_back_total
        FROM coupons WHERE id = ANY (${[...couponIds]}::uuid[])`,
    );
    return new Map(rows.map(({ id, ...counts }) => [id, counts]));
  }

  private async readQuotaGroups(couponIds: readonly string[]): Promise<(string | null | undefined)[]> {
    const rows = await this.database.reads.run(
      noDeadlineMs,
      ({ sql }) => sql<{ id: string; quotaGroup: string | null }[]>`
        SELECT id, quota_group FROM coupons WHERE id = ANY (${[...couponIds]}::uuid[])`,
    );
    const groups = new Map(rows.map(({ id, quotaGroup }) => [id, quotaGroup]));
    return couponIds.map((couponId) => groups.get(couponId));
  }

  private issueOnce(requests: readonly IssueRequest[], again: boolean): Promise<IssuedRow[]> {
    return this.database.commits.run(
      noDeadlineMs,
      ({ sql }) => sql<IssuedRow[]>`
        SELECT * FROM issue_user_coupons(
          ${requests.map((request) => request.userCouponId)}::uuid[],
          ${requests.map((request) => request.couponId)}::uuid[],
          ${requests.map((request) => request.userId)}::text[],
          ${requests.map((request) => request.requestId || null)}::text[],
          ${requests.map(({ codeId }) => (codeId === undefined ? null : String(codeId)))}::text[]::bigint[],
          ${requests.map(({ hasTicket = false }) => String(hasTicket))}::text[]::boolean[],
          ${patienceOf(requests).map((ms) => (ms === null ? null : String(ms)))}::text[]::int[],
          ${labelsOf(requests)}::text[]::jsonb[],
          ${typesOf(requests)}::text[],
          ${this.quotaTimeZone},
          ${again})`,
    );
  }
}

/** Hardly any call has labels: a batch without them says nothing of each row. */
function labelsOf(requests: readonly IssueRequest[]): (string | null)[] | null {
  if (requests.every(({ labels }) => !labels)) return null;
  return requests.map(({ labels }) => (labels ? JSON.stringify(labels) : null));
}

/** A batch in which nobody asks for a type says nothing of each row, either. */
function typesOf(requests: readonly IssueRequest[]): (string | null)[] | null {
  return requests.every(({ type }) => type === undefined) ? null : requests.map(({ type }) => type ?? null);
}

function toIssueResult(row: IssuedRow, request: IssueRequest): IssueResult {
  const { outcome, id } = row;
  if (outcome === "REPLAYED") return { outcome: "REPLAYED", userCouponId: id };
  if (outcome === "CONFLICT") throw new Error("a request id stayed in conflict");
  if (outcome === "BEHIND") throw new Error("a request stayed behind another one");
  if (outcome === "TICKET_NEEDED" || outcome === "TOO_LATE" || outcome === "OTHER_TYPE") return { outcome };
  if (outcome !== "ISSUED") return { outcome: "REFUSED", reason: outcome };
  const userCoupon: UserCoupon = {
    id,
    couponId: request.couponId,
    userId: request.userId,
    issuedAt: new Date(row.issuedAtMs),
    validUntil: row.validUntilMs === null ? null : new Date(row.validUntilMs),
    maxUses: row.maxUses,
    useCount: 0,
    placeCount: 0,
    lockedUntil: null,
    claimUntil: row.claimUntilMs === null ? null : new Date(row.claimUntilMs),
    releasedAt: null,
    code: row.code,
    discount: row.discount,
    labels: request.labels ?? null,
  };
  return { outcome: "ISSUED", userCoupon, expiresAt: expiryOf(userCoupon, { expiresAt: new Date(row.expiresAtMs) }) };
}
