import type { Reason } from "../../../domain/refusal.js";
import { greatestId } from "../../../platform/new-id.js";
import type { AuditFilter, AuditRecord, AuditStore, RefusedCall, Snapshot } from "../../ports/audit.js";
import { type DeadlineMs, noDeadlineMs, type Page, type Rows } from "../../ports/page.js";
import { type CouponRow, rowFromJson, toCoupon } from "../coupons/coupon-row.js";
import type { Connection, Database } from "../database.js";
import { keepMonths } from "../months/keep-months.js";
import { auditRecords } from "../schema.js";
import { rowOf } from "./administer.js";

/** Records that are looked through for one page of those that meet several conditions. */
export const maxLooked = 2_000;

type AuditRow = typeof auditRecords.$inferSelect;

export class PostgresAuditStore implements AuditStore {
  constructor(
    private readonly database: Database,
    private readonly mostLooked = maxLooked,
  ) {}

  async recordRefused(calls: readonly RefusedCall[]): Promise<void> {
    const rows = calls.map(({ call, reason, targetId, at, id }) => ({
      ...rowOf(call, at, id),
      outcome: reason,
      targetId,
    }));
    await this.database.background.run(noDeadlineMs, async ({ orm }) => {
      await orm.insert(auditRecords).values(rows).onConflictDoNothing();
    });
  }

  /**
   * Goes through one index, that of the condition which the fewest records meet as a rule, and looks for the others on the way,
   * only so far that a page costs the same however many records there are.
   */
  list(filter: AuditFilter, { size, before }: Page, deadlineMs: DeadlineMs): Promise<Rows<AuditRecord>> {
    return this.database.reads.run(deadlineMs, async ({ sql }) => {
      const [first, ...others] = conditions(sql, filter);
      const most = others.length > 0 ? this.mostLooked : size + 1;
      const found = await sql<(AuditRow & Looked)[]>`
        WITH looked AS MATERIALIZED (
          SELECT id, principal, method FROM audit_records
          WHERE id >= ${leastId(filter.from ?? new Date(0))} AND id < ${endOf(before, filter.until)} AND ${first ?? sql`true`}
          ORDER BY id DESC LIMIT ${most}
        ),
        wanted AS (
          SELECT id FROM looked WHERE ${others.reduce((all, one) => sql`${all} AND ${one}`, sql`true`)}
          ORDER BY id DESC LIMIT ${size + 1}
        )
        SELECT r.*, l.* FROM (
          SELECT count(*)::int AS looked_count, (SELECT id FROM looked ORDER BY id LIMIT 1) AS looked_to FROM looked
        ) l
        LEFT JOIN (wanted w JOIN audit_records r ON r.id = w.id) ON true
        ORDER BY r.id DESC`;
      const rows = found.filter(({ id }) => id !== null);
      if (rows.length > size) return { rows: rows.slice(0, size).map(toRecord), next: rows[size - 1]!.id };
      const { lookedCount, lookedTo } = found[0]!;
      return { rows: rows.map(toRecord), next: others.length > 0 && lookedCount === most ? lookedTo : null };
    });
  }

  keep(keepDays: number): Promise<{ made: number; dropped: string[] }> {
    return keepMonths(this.database, "audit_records", keepDays);
  }
}

interface Looked {
  readonly lookedCount: number;
  readonly lookedTo: string | null;
}

/** The one that chooses the index comes first. */
function conditions(sql: Connection["sql"], { targetId, principal, method }: AuditFilter) {
  return [
    ...(targetId === null ? [] : [sql`target_id = ${targetId}`]),
    ...(principal === null ? [] : [sql`principal = ${principal}`]),
    ...(method === null ? [] : [sql`method = ${method}`]),
  ];
}

/** No id of this moment, or of a later one, is less. */
function leastId(at: Date): string {
  const digits = at.getTime().toString(16).padStart(12, "0");
  return `${digits.slice(0, 8)}-${digits.slice(8)}-0000-0000-000000000000`;
}

/** Before what both the page and the filter end. */
function endOf(before: string | null, until: Date | null): string {
  const ends = [before ?? greatestId, ...(until ? [leastId(until)] : [])];
  return ends.sort()[0] as string;
}

function toRecord(row: AuditRow): AuditRecord {
  const { id, happenedAt, principal, method, requestId, callerRequestId, outcome, targetId, before, after } = row;
  return {
    ...{ id, happenedAt, principal, method, requestId, callerRequestId, targetId },
    outcome: outcome as "OK" | Reason,
    before: toSnapshot(before),
    after: toSnapshot(after),
  };
}

function toSnapshot(stored: unknown): Snapshot | null {
  const { coupon } = (stored ?? {}) as { coupon?: CouponRow };
  return coupon ? { coupon: toCoupon(rowFromJson(coupon)) } : (stored as Snapshot | null);
}
