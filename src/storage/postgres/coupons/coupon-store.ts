import { eq, getTableColumns, sql } from "drizzle-orm";
import type { Coupon, CouponDefinition } from "../../../domain/coupon.js";
import { Refusal } from "../../../domain/refusal.js";
import { cut } from "../../../platform/cut.js";
import { jsonInSlices, mapInSlices } from "../../../platform/json-slices.js";
import { greatestId, newId } from "../../../platform/new-id.js";
import type { AdminCall } from "../../ports/audit.js";
import type { CouponEdit, CouponEventKind, CouponStore } from "../../ports/coupons.js";
import {
  type Dated,
  type DeadlineMs,
  type Listed,
  noDeadlineMs,
  type Page,
  type RequestKey,
} from "../../ports/page.js";
import { type Administered, administer, again, couponSnapshot } from "../audit/administer.js";
import type { Database } from "../database.js";
import { guarded } from "../errors.js";
import { asJson, findEarlier, findEarlierList, readClock, recordRequest, type Tx } from "../requests.js";
import { coupons, events } from "../schema.js";
import { TurnBatch } from "../turn-batch.js";
import { type CouponRow, couponColumns, fromDefinition, fromEdit, rowFromJson, toCoupon } from "./coupon-row.js";

/** Coupons that are read in one query. */
const maxGets = 64;
/** Of the coupons of one call; each has its event. */
const maxIdsOnRecord = 100;

export class PostgresCouponStore implements CouponStore {
  private readonly gets = new TurnBatch<string, Dated<Coupon> | null>({
    maxItems: maxGets,
    run: (ids) => this.read(ids),
  });

  constructor(private readonly database: Database) {}

  create(build: (now: Date) => CouponDefinition | Refusal, request: RequestKey | null, call: AdminCall) {
    return administer(this.database, call, request, async (tx) => {
      const now = await readClock(tx);
      const earlier = again(await earlierCoupon(tx, request));
      if (earlier) return earlier;
      const definition = build(now);
      if (definition instanceof Refusal) return definition;
      const [row] = await tx
        .insert(coupons)
        .values({ id: newId(now.getTime()), ...fromDefinition(definition), createdAt: now, updatedAt: now })
        .returning();
      return await done(tx, null, row as CouponRow, "COUPON_CREATED", request, now);
    });
  }

  createMany(
    build: (now: Date) => Promise<readonly (CouponDefinition | Refusal)[]>,
    request: RequestKey | null,
    call: AdminCall,
  ) {
    return administer(this.database, call, request, async (tx) => {
      const now = await readClock(tx);
      const earlier = await findEarlierList<StoredResult>(tx, request);
      if (earlier instanceof Refusal) return earlier;
      if (earlier)
        return { answer: { value: await mapInSlices(earlier.answer, fromStored), now: earlier.at }, change: null };
      const definitions = await build(now);
      const results = await mapInSlices(definitions, (one) => (one instanceof Refusal ? one : newRow(one, now)));
      const rows = results.filter((one): one is CouponRow => !(one instanceof Refusal));
      if (rows.length > 0) await insertRows(tx, rows, now);
      if (request) await recordRequest(tx, asJson(await jsonInSlices(results, toStored)), request, now);
      const value: (Coupon | Refusal)[] = results.map((one) => (one instanceof Refusal ? one : toCoupon(one)));
      const couponIds = rows.slice(0, maxIdsOnRecord).map(({ id }) => id);
      const after = { createdCount: rows.length, refusedCount: results.length - rows.length, couponIds };
      return { answer: { value, now }, change: { now, targetId: null, after } };
    });
  }

  change(
    change: { id: string; revision: number; kind: CouponEventKind; request: RequestKey | null },
    edit: (current: Coupon, now: Date) => CouponEdit | Refusal | null,
    beforeCommit: () => Promise<void>,
    call: AdminCall,
  ) {
    return administer(this.database, call, change.request, async (tx) => {
      const [row] = await tx.select().from(coupons).where(eq(coupons.id, change.id)).for("no key update");
      const now = await readClock(tx);
      const earlier = again(await earlierCoupon(tx, change.request));
      if (earlier) return earlier;
      if (!row || row.deletedAt) return new Refusal("COUPON_NOT_FOUND");
      if (change.revision !== 0 && change.revision !== row.revision) return new Refusal("STALE_REVISION");

      const edited = edit(toCoupon(row), now);
      if (edited instanceof Refusal) return edited;
      if (edited === null) {
        await recordRequest(tx, row, change.request, now);
        return administered(row, row, now);
      }
      const [changed] = await tx
        .update(coupons)
        .set({ ...fromEdit(edited), revision: row.revision + 1, updatedAt: now })
        .where(eq(coupons.id, change.id))
        .returning();
      await beforeCommit();
      return await done(tx, row, changed as CouponRow, change.kind, change.request, now);
    });
  }

  get(id: string, deadlineMs: DeadlineMs): Promise<Dated<Coupon> | null> {
    return guarded(deadlineMs, () => this.gets.add(id));
  }

  list({ size, before }: Page, showDeleted: boolean, deadlineMs: DeadlineMs): Promise<Listed<Coupon>> {
    return this.database.reads.run(deadlineMs, async ({ sql }) => {
      // Whichever rows are wanted, an index has them alone, in this order.
      const found = await sql<(CouponRow & { now: Date })[]>`
        SELECT ${sql(couponColumns.map((name) => `c.${name}`))}, coupon_clock() AS now FROM coupons c
        WHERE c.id < ${before ?? greatestId} ${showDeleted ? sql`` : sql`AND c.deleted_at IS NULL`}
        ORDER BY c.id DESC LIMIT ${size + 1}`;
      const rows = found.slice(0, size).map(({ now: _, ...row }) => toCoupon(row));
      const next = found.length > size ? rows.at(-1)!.id : null;
      return { rows, next, now: found[0]?.now ?? new Date(0) };
    });
  }

  /** One by one by its key, at every size of the table. */
  private async read(ids: readonly string[]): Promise<(Dated<Coupon> | null)[]> {
    const rows = await this.database.reads.run(
      noDeadlineMs,
      ({ sql }) => sql<(CouponRow & { now: Date })[]>`
        SELECT ${sql(couponColumns.map((name) => `c.${name}`))}, clock.now
        FROM (SELECT coupon_clock() AS now OFFSET 0) clock
        CROSS JOIN (
          SELECT * FROM json_array_elements_text(${JSON.stringify([...new Set(ids)])}::text::json) AS asked (id)
          LIMIT ${sql.unsafe(String(maxGets))}
        ) asked
        CROSS JOIN LATERAL (SELECT * FROM coupons WHERE id = asked.id::uuid OFFSET 0) c`,
    );
    const found = new Map(rows.map(({ now, ...row }) => [row.id, { value: toCoupon(row), now }]));
    return ids.map((id) => found.get(id) ?? null);
  }
}

/** Of a text in a refusal that is kept: more is told to nobody. */
const maxStoredBytes = 400;

/** One result of `createMany`, as it is kept for a repeated request. */
type StoredResult = { readonly row: CouponRow } | { readonly refusal: Pick<Refusal, "reason" | "violations"> };

function toStored(result: CouponRow | Refusal): StoredResult {
  if (!(result instanceof Refusal)) return { row: result };
  const violations = result.violations.map(({ field, description }) => ({
    field: cut(field, maxStoredBytes),
    description: cut(description, maxStoredBytes),
  }));
  return { refusal: { reason: result.reason, violations } };
}

function fromStored(stored: StoredResult): Coupon | Refusal {
  if ("row" in stored) return toCoupon(rowFromJson(stored.row));
  return new Refusal(stored.refusal.reason, stored.refusal.violations);
}

/** What Postgres does not work out by itself. */
const columns = Object.entries(getTableColumns(coupons)).filter(([, column]) => !column.generated);
const columnNames = sql.join(
  columns.map(([, column]) => sql.identifier(column.name)),
  sql`, `,
);

function newRow(definition: CouponDefinition, now: Date): CouponRow {
  const unset = Object.fromEntries(columns.map(([field, { default: value }]) => [field, value ?? null]));
  return {
    ...unset,
    id: newId(now.getTime()),
    ...fromDefinition(definition),
    createdAt: now,
    updatedAt: now,
  } as CouponRow;
}

/** With their events: a statement for each table, for a parameter for each value would be 40,000 of them. */
async function insertRows(tx: Tx, rows: readonly CouponRow[], now: Date): Promise<void> {
  const byColumn = await jsonInSlices(rows, (row) =>
    Object.fromEntries(columns.map(([field, { name }]) => [name, row[field as keyof CouponRow]])),
  );
  const details = await jsonInSlices(rows, (row) => row);
  await tx.execute(sql`
    INSERT INTO coupons (${columnNames})
    SELECT ${columnNames} FROM json_populate_recordset(NULL::coupons, ${byColumn}::text::json)`);
  await tx.execute(sql`
    INSERT INTO events (kind, happened_at, coupon_id, detail)
    SELECT 'COUPON_CREATED', ${now.toISOString()}::timestamptz, (row ->> 'id')::uuid, row
    FROM json_array_elements(${details}::text::json) WITH ORDINALITY AS made (row, position)
    ORDER BY position`);
}

/** As it was then, also where the time of day shows: a state is derived for the moment of the first answer. */
async function earlierCoupon(tx: Tx, request: RequestKey | null): Promise<Dated<Coupon> | Refusal | null> {
  const earlier = await findEarlier(tx, request);
  if (!earlier || earlier instanceof Refusal) return earlier;
  return { value: toCoupon(rowFromJson(earlier.answer)), now: earlier.at };
}

function administered(before: CouponRow | null, row: CouponRow, now: Date): Administered<Dated<Coupon>> {
  const change = {
    now,
    targetId: row.id,
    ...(before && { before: couponSnapshot(before) }),
    after: couponSnapshot(row),
  };
  return { answer: { value: toCoupon(row), now }, change };
}

async function done(
  tx: Tx,
  before: CouponRow | null,
  row: CouponRow,
  kind: CouponEventKind,
  request: RequestKey | null,
  now: Date,
): Promise<Administered<Dated<Coupon>>> {
  await tx.insert(events).values({ kind, happenedAt: now, couponId: row.id, detail: row });
  await recordRequest(tx, row, request, now);
  return administered(before, row, now);
}
