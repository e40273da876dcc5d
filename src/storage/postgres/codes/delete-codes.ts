import { and, eq, inArray, isNull, notExists, sql } from "drizzle-orm";
import { codeKey, type DeleteOutcome } from "../../../domain/code.js";
import type { Coupon } from "../../../domain/coupon.js";
import { Refusal } from "../../../domain/refusal.js";
import type { CodeTarget, DeletedCodes, WhichCodes } from "../../ports/codes.js";
import type { RequestKey } from "../../ports/page.js";
import type { Administered } from "../audit/administer.js";
import { toCoupon } from "../coupons/coupon-row.js";
import { findEarlier, readClock, recordRequest, type Tx } from "../requests.js";
import { codeJobs, codeSources, codes, coupons } from "../schema.js";

/** Codes of a coupon that one call looks at: the coupon is locked meanwhile, and issuing waits. */
export const maxCodesPerStep = 5_000;

export interface Deletion {
  readonly target: CodeTarget;
  readonly which: WhichCodes;
  readonly request: RequestKey | null;
}

/** One step, in the transaction of the caller. */
export async function deleteCodes(
  tx: Tx,
  { target, which, request }: Deletion,
  mostLooked: number,
): Promise<Administered<DeletedCodes> | Refusal> {
  const isTarget =
    "type" in target
      ? and(eq(coupons.type, target.type), eq(coupons.isPool, true), isNull(coupons.deletedAt))
      : eq(coupons.id, target.couponId);
  const [row] = await tx.select().from(coupons).where(isTarget).for("no key update");
  const earlier = await findEarlier(tx, request);
  if (earlier instanceof Refusal) return earlier;
  if (earlier) return { answer: earlier.answer as DeletedCodes, change: null };
  if (!row || row.deletedAt) return new Refusal("COUPON_NOT_FOUND");
  const book = toCoupon(row);
  if (!book.codeBook) return new Refusal("NOT_A_CODE_BOOK");
  const deleted =
    "codes" in which ? await deleteNamed(tx, book, which.codes) : await deleteStep(tx, book, which, mostLooked);
  if (deleted instanceof Refusal) return deleted;
  const now = await readClock(tx);
  await recordRequest(tx, deleted, request, now);
  const { deletedCount, takenCount } = deleted;
  const named = "codes" in which ? { namedCount: which.codes.length } : { source: which.source };
  return { answer: deleted, change: { now, targetId: book.id, after: { ...named, deletedCount, takenCount } } };
}

async function deleteNamed(tx: Tx, book: Coupon, named: readonly string[]): Promise<DeletedCodes> {
  const keys = named.map((code) => codeKey(code, book.codeBook?.exactMatch ?? false));
  const found = await tx
    .select({ id: codes.id, key: codes.codeKey, holderCount: codes.holderCount })
    .from(codes)
    .where(and(inArray(codes.codeKey, keys), eq(codes.couponId, book.id)));
  const free = found.filter(({ holderCount }) => holderCount === 0).map(({ id }) => id);
  const [said] = await tx.execute<{ n: number }>(
    sql`SELECT delete_codes(${book.id}, ARRAY(SELECT json_array_elements_text(${JSON.stringify(free)}::text::json)::bigint), '{}') AS n`,
  );
  const holders = new Map(found.map(({ key, holderCount }) => [key, holderCount]));
  const outcomes = keys.map((key): DeleteOutcome => {
    const holderCount = holders.get(key);
    return holderCount === undefined ? "NOT_FOUND" : holderCount === 0 ? "DELETED" : "TAKEN";
  });
  const takenCount = found.length - free.length;
  return { couponId: book.id, deletedCount: said?.n ?? 0, takenCount, outcomes, next: null };
}

async function deleteStep(
  tx: Tx,
  book: Coupon,
  { source, after }: Exclude<WhichCodes, { codes: unknown }>,
  mostLooked: number,
): Promise<DeletedCodes | Refusal> {
  const { id } = source;
  const table = source.kind === "upload" ? codeSources : codeJobs;
  // What a job has made is a source, too, under the job's id.
  const isJob = tx.select({ id: codeJobs.id }).from(codeJobs).where(eq(codeJobs.id, id));
  const [known] = await tx
    .select({ id: table.id })
    .from(table)
    .where(and(eq(table.id, id), eq(table.couponId, book.id), source.kind === "upload" ? notExists(isJob) : undefined));
  if (!known) return new Refusal(source.kind === "upload" ? "CODE_UPLOAD_NOT_FOUND" : "CODE_JOB_NOT_FOUND");
  const named = JSON.stringify(source.kind === "upload" ? { uploadId: id } : { jobId: id });
  const [step] = await tx.execute<{ deletedCount: number; takenCount: number; lookedTo: number | null }>(
    sql`SELECT * FROM delete_codes_of_source(${id}, ${after ?? "0"}, ${mostLooked}, ${named}::text::jsonb)`,
  );
  const { deletedCount, takenCount, lookedTo } = step!;
  return {
    couponId: book.id,
    deletedCount,
    takenCount,
    outcomes: [],
    next: lookedTo === null ? null : String(lookedTo),
  };
}
