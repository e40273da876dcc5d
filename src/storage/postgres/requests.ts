import { and, eq, type SQL, sql } from "drizzle-orm";
import type { PgTransaction } from "drizzle-orm/pg-core";
import type { PostgresJsQueryResultHKT } from "drizzle-orm/postgres-js";
import { type Refusal, requestIdReused } from "../../domain/refusal.js";
import type { DeadlineMs, RequestKey } from "../ports/page.js";
import type { Connection, Database } from "./database.js";
import { queryTimeoutMs } from "./errors.js";
import { coupons, requests } from "./schema.js";

export type Tx = PgTransaction<PostgresJsQueryResultHKT, typeof import("./schema.js"), never> | Connection["orm"];

export const clock = sql`coupon_clock()`.mapWith(coupons.createdAt);

/** Two calls with the same request id ran at once and the other one won: what this one did is rolled back. */
class LostToSameRequest extends Error {}

/** Runs `work` in a transaction. When the same request ran at the same moment and won, its answer is found instead. */
export function once<T>(
  database: Database,
  request: RequestKey | null,
  deadlineMs: DeadlineMs,
  work: (tx: Tx) => Promise<T>,
  timeoutMs = queryTimeoutMs,
): Promise<T> {
  const runOnce = async ({ orm }: Connection) => {
    const run = () => orm.transaction((tx) => work(tx as unknown as Tx));
    try {
      return await run();
    } catch (error) {
      if (request && error instanceof LostToSameRequest) return await run();
      throw error;
    }
  };
  return database.writes.run(deadlineMs, runOnce, timeoutMs);
}

export async function readClock(tx: Tx): Promise<Date> {
  const [row] = await tx.select({ now: clock }).from(sql`(VALUES (1)) AS one`);
  return (row as { now: Date }).now;
}

/** The answer of an earlier call with this request id, or the refusal when its input was another. */
export async function findEarlier(
  tx: Tx,
  request: RequestKey | null,
): Promise<{ readonly answer: unknown; readonly at: Date } | Refusal | null> {
  if (!request) return null;
  const [earlier] = await tx
    .select()
    .from(requests)
    .where(and(eq(requests.method, request.method), eq(requests.requestId, request.requestId)));
  if (!earlier) return null;
  if (Buffer.compare(earlier.inputHash, request.inputHash) !== 0) {
    return requestIdReused();
  }
  return { answer: earlier.answer, at: earlier.createdAt };
}

/** The same of an answer that is a long list: its items come one by one, for they are parsed as they come. */
export async function findEarlierList<T>(
  tx: Tx,
  request: RequestKey | null,
): Promise<{ readonly answer: readonly T[]; readonly at: Date } | Refusal | null> {
  if (!request) return null;
  const isSame = and(eq(requests.method, request.method), eq(requests.requestId, request.requestId));
  const [earlier] = await tx
    .select({ inputHash: requests.inputHash, at: requests.createdAt })
    .from(requests)
    .where(isSame);
  if (!earlier) return null;
  if (Buffer.compare(earlier.inputHash, request.inputHash) !== 0) return requestIdReused();
  const items = await tx
    .select({ item: sql<T>`item` })
    .from(sql`${requests}, jsonb_array_elements(${requests.answer}) WITH ORDINALITY AS listed (item, ordinal)`)
    .where(isSame)
    .orderBy(sql`ordinal`);
  return { answer: items.map(({ item }) => item), at: earlier.at };
}

/** An answer that is JSON already. */
export function asJson(text: string): SQL {
  return sql`${text}::text::jsonb`;
}

export async function recordRequest(tx: Tx, answer: unknown, request: RequestKey | null, now: Date): Promise<void> {
  if (!request) return;
  const stored = await tx
    .insert(requests)
    .values({ ...request, answer, createdAt: now })
    .onConflictDoNothing()
    .returning({ method: requests.method });
  if (stored.length === 0) throw new LostToSameRequest();
}
