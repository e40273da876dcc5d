import { and, desc, eq, isNull, lt, sql } from "drizzle-orm";
import type { PgTransaction } from "drizzle-orm/pg-core";
import type { PostgresJsQueryResultHKT } from "drizzle-orm/postgres-js";
import type { Coupon, CouponDefinition } from "../../domain/coupon.js";
import { Refusal } from "../../domain/refusal.js";
import { newId } from "../../platform/new-id.js";
import type {
  CouponEdit,
  CouponEventKind,
  CouponStore,
  Dated,
  DeadlineMs,
  Listed,
  Page,
  RequestKey,
} from "../ports.js";
import { type CouponRow, fromDefinition, fromEdit, rowFromJson, toCoupon } from "./coupon-row.js";
import type { Database } from "./database.js";
import { guarded } from "./errors.js";
import { coupons, events, requests } from "./schema.js";

type Tx = PgTransaction<PostgresJsQueryResultHKT, typeof import("./schema.js"), never> | Database["orm"];

const clock = sql`coupon_clock()`.mapWith(coupons.createdAt);

/** Two calls with the same request id ran at once and the other one won: what this one did is rolled back. */
class LostToSameRequest extends Error {}

export class PostgresCouponStore implements CouponStore {
  constructor(private readonly database: Database) {}

  create(build: (now: Date) => CouponDefinition | Refusal, request: RequestKey | null, deadlineMs: DeadlineMs) {
    return this.once(request, deadlineMs, async (tx) => {
      const now = await readClock(tx);
      const earlier = await findEarlier(tx, request);
      if (earlier) return earlier;
      const definition = build(now);
      if (definition instanceof Refusal) return definition;
      const [row] = await tx
        .insert(coupons)
        .values({ id: newId(), ...fromDefinition(definition), createdAt: now, updatedAt: now })
        .returning();
      return await record(tx, row as CouponRow, "COUPON_CREATED", request, now);
    });
  }

  change(
    change: { id: string; revision: number; kind: CouponEventKind; request: RequestKey | null },
    edit: (current: Coupon, now: Date) => CouponEdit | Refusal | null,
    beforeCommit: () => Promise<void>,
    deadlineMs: DeadlineMs,
  ) {
    return this.once(change.request, deadlineMs, async (tx) => {
      const [row] = await tx.select().from(coupons).where(eq(coupons.id, change.id)).for("no key update");
      const now = await readClock(tx);
      const earlier = await findEarlier(tx, change.request);
      if (earlier) return earlier;
      if (!row || row.deletedAt) return new Refusal("COUPON_NOT_FOUND");
      if (change.revision !== 0 && change.revision !== row.revision) return new Refusal("STALE_REVISION");

      const edited = edit(toCoupon(row), now);
      if (edited instanceof Refusal) return edited;
      if (edited === null) {
        await recordRequest(tx, row, change.request, now);
        return { value: toCoupon(row), now };
      }
      const [changed] = await tx
        .update(coupons)
        .set({ ...fromEdit(edited), revision: row.revision + 1, updatedAt: now })
        .where(eq(coupons.id, change.id))
        .returning();
      await beforeCommit();
      return await record(tx, changed as CouponRow, change.kind, change.request, now);
    });
  }

  get(id: string, deadlineMs: DeadlineMs): Promise<Dated<Coupon> | null> {
    return guarded(deadlineMs, async () => {
      const [found] = await this.database.orm
        .select({ row: coupons, now: clock })
        .from(coupons)
        .where(eq(coupons.id, id));
      return found ? { value: toCoupon(found.row), now: found.now } : null;
    });
  }

  list(page: Page, showDeleted: boolean, deadlineMs: DeadlineMs): Promise<Listed<Coupon>> {
    return guarded(deadlineMs, async () => {
      const found = await this.database.orm
        .select({ row: coupons, now: clock })
        .from(coupons)
        .where(
          and(
            page.before ? lt(coupons.id, page.before) : undefined,
            showDeleted ? undefined : isNull(coupons.deletedAt),
          ),
        )
        .orderBy(desc(coupons.id))
        .limit(page.size + 1);
      return {
        rows: found.slice(0, page.size).map(({ row }) => toCoupon(row)),
        hasMore: found.length > page.size,
        now: found[0]?.now ?? new Date(0),
      };
    });
  }

  /** Runs `work` in a transaction. When the same request ran at the same moment and won, its answer is found instead. */
  private once<T>(request: RequestKey | null, deadlineMs: DeadlineMs, work: (tx: Tx) => Promise<T>): Promise<T> {
    const run = () => this.database.orm.transaction((tx) => work(tx as unknown as Tx));
    return guarded(deadlineMs, async () => {
      try {
        return await run();
      } catch (error) {
        if (request && error instanceof LostToSameRequest) return await run();
        throw error;
      }
    });
  }
}

async function readClock(tx: Tx): Promise<Date> {
  const [row] = await tx.select({ now: clock }).from(sql`(VALUES (1)) AS one`);
  return (row as { now: Date }).now;
}

/** The answer of an earlier call with this request id, or the refusal when its input was another. */
async function findEarlier(tx: Tx, request: RequestKey | null): Promise<Dated<Coupon> | Refusal | null> {
  if (!request) return null;
  const [earlier] = await tx
    .select()
    .from(requests)
    .where(and(eq(requests.method, request.method), eq(requests.requestId, request.requestId)));
  if (!earlier) return null;
  if (Buffer.compare(earlier.inputHash, request.inputHash) !== 0) {
    const description = "was used before with other input";
    return new Refusal("REQUEST_ID_REUSED", [{ field: "request_id", description }]);
  }
  // As it was then, also where the time of day shows: a state is derived for the moment of the first answer.
  return { value: toCoupon(rowFromJson(earlier.answer)), now: earlier.createdAt };
}

async function record(
  tx: Tx,
  row: CouponRow,
  kind: CouponEventKind,
  request: RequestKey | null,
  now: Date,
): Promise<Dated<Coupon>> {
  await tx.insert(events).values({ kind, happenedAt: now, couponId: row.id, detail: row });
  await recordRequest(tx, row, request, now);
  return { value: toCoupon(row), now };
}

async function recordRequest(tx: Tx, answer: CouponRow, request: RequestKey | null, now: Date): Promise<void> {
  if (!request) return;
  const stored = await tx
    .insert(requests)
    .values({ ...request, answer, createdAt: now })
    .onConflictDoNothing()
    .returning({ method: requests.method });
  if (stored.length === 0) throw new LostToSameRequest();
}
