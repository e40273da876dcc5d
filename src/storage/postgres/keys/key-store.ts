import { eq, sql } from "drizzle-orm";
import { type CallerKey, expiryOfNext, holds } from "../../../domain/caller-key.js";
import type { OwnLimits } from "../../../domain/caller-limits.js";
import { isScope, type Scope } from "../../../domain/principal.js";
import { invalid, Refusal } from "../../../domain/refusal.js";
import type { AdminCall } from "../../ports/audit.js";
import type { KeyPage, KeyStore, Made, NewKey, StoredKey } from "../../ports/keys.js";
import { type DeadlineMs, noDeadlineMs, type Page, type RequestKey, type Rows } from "../../ports/page.js";
import { type Administered, administer } from "../audit/administer.js";
import type { Database } from "../database.js";
import { findEarlier, readClock, recordRequest, type Tx } from "../requests.js";
import { callerKeys, callers } from "../schema.js";

const greatestSeq = "9223372036854775807";

type KeyRow = typeof callerKeys.$inferSelect;
/** What may be known of a key, as it is kept for a repeated request. */
type StoredAnswer = { readonly key: Described; readonly replaced?: Described };
type Described = Omit<KeyRow, "hash" | "changedXid">;
type LookRow = Pick<KeyRow, "id" | "seq" | "caller" | "scopes" | "hash"> & {
  readonly expiresAt: Date | string | null;
  readonly revokedAt: Date | string | null;
  readonly limits: OwnLimits | null;
  readonly mark: string;
  readonly now: Date | string;
};

type Rotated = Made & { readonly replaced: CallerKey };

export class PostgresKeyStore implements KeyStore {
  constructor(private readonly database: Database) {}

  create(key: Parameters<KeyStore["create"]>[0], request: RequestKey | null, call: AdminCall): Promise<Made | Refusal> {
    return administer(this.database, call, request, async (tx): Promise<Administered<Made> | Refusal> => {
      const now = await readClock(tx);
      const earlier = await earlierAnswer(tx, request);
      if (earlier instanceof Refusal) return earlier;
      if (earlier) return { answer: { key: toKey(earlier.key), isReplay: true }, change: null };
      if (key.expiresAt && key.expiresAt <= now) return notInFuture();
      await tx.insert(callers).values({ name: key.caller, createdAt: now }).onConflictDoNothing();
      const row = await insert(tx, { ...key, scopes: key.scopes.join(" "), createdAt: now });
      await recordRequest(tx, answerOf(row), request, now);
      const recorded = { now, targetId: row.id, after: { key: toKey(row) } };
      return { answer: { key: toKey(row), isReplay: false }, change: recorded };
    });
  }

  list(caller: string, { size, before }: Page, deadlineMs: DeadlineMs): Promise<Rows<CallerKey>> {
    return this.database.reads.run(deadlineMs, async ({ sql }) => {
      const found = await sql<Described[]>`
        SELECT * FROM caller_keys
        WHERE seq < ${before ?? greatestSeq}::bigint ${caller === "" ? sql`` : sql`AND caller = ${caller}`}
        ORDER BY seq DESC LIMIT ${size + 1}`;
      const rows = found.slice(0, size);
      return { rows: rows.map(toKey), next: found.length > size ? String(rows.at(-1)!.seq) : null };
    });
  }

  rotate(
    id: string,
    next: NewKey & { readonly overlapMs: number; readonly expiresAt: Date | null },
    request: RequestKey | null,
    call: AdminCall,
  ) {
    return administer(this.database, call, request, async (tx): Promise<Administered<Rotated> | Refusal> => {
      const { row, now, earlier } = await lock(tx, id, request);
      if (earlier instanceof Refusal) return earlier;
      if (earlier?.replaced) {
        const answer = { key: toKey(earlier.key), replaced: toKey(earlier.replaced), isReplay: true };
        return { answer, change: null };
      }
      if (!row) return new Refusal("KEY_NOT_FOUND");
      if (!holds(row, now)) return new Refusal("KEY_ENDED");
      const expiresAt = next.expiresAt ?? expiryOfNext(toKey(row), now);
      if (expiresAt && expiresAt <= now) return notInFuture();
      const { caller, scopes } = row;
      const { id: nextId, hash } = next;
      const made = await insert(tx, { id: nextId, hash, caller, scopes, createdAt: now, expiresAt, replacedId: id });
      const endsAt = new Date(now.getTime() + next.overlapMs);
      const replaced = row.expiresAt && row.expiresAt <= endsAt ? row : await change(tx, id, { expiresAt: endsAt });
      await recordRequest(tx, answerOf(made, replaced), request, now);
      const [key, ended] = [toKey(made), toKey(replaced)];
      const recorded = { now, targetId: id, before: { key: toKey(row) }, after: { key: ended, next: key } };
      return { answer: { key, replaced: ended, isReplay: false }, change: recorded };
    });
  }

  expire(id: string, expiresAt: Date, request: RequestKey | null, call: AdminCall) {
    return this.change(id, request, call, (row, now) => {
      if (!holds(row, now)) return new Refusal("KEY_ENDED");
      if (expiresAt <= now) return notInFuture();
      if (row.expiresAt && expiresAt >= row.expiresAt) {
        return invalid({ field: "expire_time", description: "must be earlier than the key's own" });
      }
      return { expiresAt };
    });
  }

  revoke(id: string, request: RequestKey | null, call: AdminCall) {
    return this.change(id, request, call, (row, now) => (row.revokedAt ? null : { revokedAt: now }));
  }

  async readPage(since: string | null, after: string, size: number): Promise<KeyPage> {
    // What the earlier look did not see was of transactions that were open then, or not begun. OFFSET: whatever is known of the
    // table, they are found by their own index, and not among all. What does not hold is left out later, so that a page is a
    // piece of the other index. Numbers that no transaction has had yet came from another server, with a dump: nothing has changed.
    const table =
      since === null
        ? sql`caller_keys`
        : sql`(
            SELECT * FROM caller_keys
            WHERE changed_xid >= ${since}::text::xid8 AND changed_xid < pg_snapshot_xmax(pg_current_snapshot()) OFFSET 0
          ) changed`;
    // The mark is of the snapshot that the rows are read with, and there also when there are no rows.
    const found = await this.database.background.run(noDeadlineMs, ({ orm }) =>
      orm.execute<LookRow>(sql`
        SELECT s.*, k.*
        FROM (SELECT pg_snapshot_xmin(pg_current_snapshot())::text AS mark, coupon_clock() AS now OFFSET 0) s
        LEFT JOIN LATERAL (
          SELECT id, seq, caller, scopes, hash, expires_at AS "expiresAt", revoked_at AS "revokedAt",
            (SELECT limits FROM callers WHERE name = caller) AS limits
          FROM ${table} WHERE seq > ${after}::bigint ORDER BY seq LIMIT ${size}) k ON true`),
    );
    const { mark, now } = found[0]!;
    const rows = found.filter(({ id }) => id !== null);
    const next = rows.length === size ? String(rows.at(-1)!.seq) : null;
    const keys = rows.map(toStored);
    return { keys: since === null ? keys.filter((key) => holds(key, new Date(now))) : keys, mark, next };
  }

  private change(
    id: string,
    request: RequestKey | null,
    call: AdminCall,
    edit: (row: KeyRow, now: Date) => Partial<Described> | Refusal | null,
  ): Promise<CallerKey | Refusal> {
    return administer(this.database, call, request, async (tx): Promise<Administered<CallerKey> | Refusal> => {
      const { row, now, earlier } = await lock(tx, id, request);
      if (earlier instanceof Refusal) return earlier;
      if (earlier) return { answer: toKey(earlier.key), change: null };
      if (!row) return new Refusal("KEY_NOT_FOUND");
      const edited = edit(row, now);
      if (edited instanceof Refusal) return edited;
      const changed = edited ? await change(tx, id, edited) : row;
      await recordRequest(tx, answerOf(changed), request, now);
      const recorded = { now, targetId: id, before: { key: toKey(row) }, after: { key: toKey(changed) } };
      return { answer: toKey(changed), change: recorded };
    });
  }
}

function notInFuture(): Refusal {
  return invalid({ field: "expire_time", description: "must be in the future" });
}

/** Locks the key's row, and only then asks for the time. */
async function lock(tx: Tx, id: string, request: RequestKey | null) {
  const [row] = await tx.select().from(callerKeys).where(eq(callerKeys.id, id)).for("update");
  const now = await readClock(tx);
  return { row, now, earlier: await earlierAnswer(tx, request) };
}

async function insert(tx: Tx, values: typeof callerKeys.$inferInsert): Promise<KeyRow> {
  const [row] = await tx.insert(callerKeys).values(values).returning();
  return row as KeyRow;
}

async function change(tx: Tx, id: string, to: Partial<Described>): Promise<KeyRow> {
  const set = { ...to, changedXid: sql`pg_current_xact_id()` };
  const [row] = await tx.update(callerKeys).set(set).where(eq(callerKeys.id, id)).returning();
  return row as KeyRow;
}

/** Without the hash: nobody needs it twice. */
function answerOf(key: KeyRow, replaced?: KeyRow): StoredAnswer {
  const described = ({ hash: _, changedXid: __, ...row }: KeyRow): Described => row;
  return { key: described(key), ...(replaced && { replaced: described(replaced) }) };
}

/** Times have become texts. */
async function earlierAnswer(tx: Tx, request: RequestKey | null): Promise<StoredAnswer | Refusal | null> {
  const earlier = await findEarlier(tx, request);
  return earlier instanceof Refusal || !earlier ? earlier : (earlier.answer as StoredAnswer);
}

function dateOf(at: Date | string | null): Date | null {
  return at === null ? null : new Date(at);
}

/** A later release may know more of them, and has them checked by its own replicas. */
function scopesOf(text: string): Scope[] {
  return text.split(" ").filter(isScope);
}

function toStored({ id, caller, scopes, hash, limits, ...ends }: LookRow): StoredKey {
  const [expiresAt, revokedAt] = [dateOf(ends.expiresAt), dateOf(ends.revokedAt)];
  return { id, caller, scopes: scopesOf(scopes), hash, limits, expiresAt, revokedAt };
}

function toKey({ id, caller, scopes, createdAt, expiresAt, revokedAt, replacedId }: Described): CallerKey {
  return {
    ...{ id, caller, replacedId },
    scopes: scopesOf(scopes),
    createdAt: new Date(createdAt),
    expiresAt: dateOf(expiresAt),
    revokedAt: dateOf(revokedAt),
  };
}
