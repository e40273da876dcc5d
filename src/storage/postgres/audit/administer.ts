import { Refusal } from "../../../domain/refusal.js";
import { newId } from "../../../platform/new-id.js";
import type { AdminCall } from "../../ports/audit.js";
import type { RequestKey } from "../../ports/page.js";
import type { CouponRow } from "../coupons/coupon-row.js";
import type { Database } from "../database.js";
import { once, type Tx } from "../requests.js";
import { auditRecords } from "../schema.js";

/** Of long texts that anybody may write there is no more on record. */
const maxDescriptionCharacters = 1_000;

/** What is stored of a snapshot: a coupon as its row. */
export type StoredSnapshot = { readonly coupon: CouponRow } | Readonly<Record<string, unknown>>;

/** What one administrative call did. */
export interface Change {
  readonly now: Date;
  /** null: many things. */
  readonly targetId: string | null;
  readonly before?: StoredSnapshot;
  readonly after?: StoredSnapshot;
}

/** The answer of a call, and what it did; null: nothing, for it is the answer of an earlier call. */
export interface Administered<T> {
  readonly answer: T;
  readonly change: Change | null;
}

/** An earlier call's answer, or its refusal: nothing is done. null: there was none. */
export function again<T extends object>(earlier: T | Refusal | null): Administered<T> | Refusal | null {
  if (earlier === null || earlier instanceof Refusal) return earlier;
  return { answer: earlier, change: null };
}

/** The one way by which administrative calls write: what they change and the record of it are committed together, or neither is. */
export function administer<T>(
  database: Database,
  call: AdminCall,
  request: RequestKey | null,
  work: (tx: Tx) => Promise<Administered<T> | Refusal>,
  timeoutMs?: number,
): Promise<T | Refusal> {
  const onRecord = async (tx: Tx) => {
    const done = await work(tx);
    if (done instanceof Refusal) return done;
    if (done.change) await record(tx, call, done.change);
    return done.answer;
  };
  return once(database, request, call.deadlineMs, onRecord, timeoutMs);
}

/** For what a call changes before its own transaction. */
export async function record(tx: Tx, call: AdminCall, change: Change): Promise<void> {
  const { now, targetId, before = null, after = null } = change;
  await tx
    .insert(auditRecords)
    .values({ ...rowOf(call, now, newId(now.getTime())), outcome: "OK", targetId, before, after });
}

export function rowOf({ principal, method, requestId, callerRequestId }: AdminCall, at: Date, id: string) {
  return { id, happenedAt: at, principal: principal.id, method, requestId, callerRequestId };
}

export function couponSnapshot(row: CouponRow): StoredSnapshot {
  const { description } = row;
  if (description.length <= maxDescriptionCharacters) return { coupon: row };
  return { coupon: { ...row, description: `${description.slice(0, maxDescriptionCharacters).toWellFormed()}…` } };
}
