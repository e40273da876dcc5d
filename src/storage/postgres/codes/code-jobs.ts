import { and, desc, eq, isNull, lt, sql as statement } from "drizzle-orm";
import { type CodeJob, type CodeTerms, cancelledFailure, codeJobState } from "../../../domain/code.js";
import type { Coupon } from "../../../domain/coupon.js";
import { Refusal } from "../../../domain/refusal.js";
import { greatestId, newId } from "../../../platform/new-id.js";
import type { JobFilter } from "../../ports/codes.js";
import type { Dated, Page, RequestKey, Rows } from "../../ports/page.js";
import { type Administered, again } from "../audit/administer.js";
import { type CouponRow, toCoupon } from "../coupons/coupon-row.js";
import { clock, findEarlier, readClock, recordRequest, type Tx } from "../requests.js";
import { codeJobs, coupons, events } from "../schema.js";

/** Jobs that are looked at for one page of those in some states only: as many as the largest page has. */
const maxJobsLooked = 1_000;

export type WantedJob = Pick<CodeJob, "couponId" | "pattern" | "terms" | "count">;

/** Of a code book that is not deleted. */
export async function readBook(tx: Tx, couponId: string): Promise<Dated<Coupon> | Refusal> {
  const [found] = await tx.select({ row: coupons, now: clock }).from(coupons).where(eq(coupons.id, couponId));
  return bookOf(found);
}

export function bookOf(found: { readonly row: CouponRow; readonly now: Date } | undefined): Dated<Coupon> | Refusal {
  if (!found || found.row.deletedAt) return new Refusal("COUPON_NOT_FOUND");
  const value = toCoupon(found.row);
  return value.codeBook ? { value, now: found.now } : new Refusal("NOT_A_CODE_BOOK");
}

export async function beginJob(
  tx: Tx,
  wanted: WantedJob,
  request: RequestKey | null,
  check: (book: Coupon, now: Date) => Refusal | null,
): Promise<Administered<CodeJob> | Refusal> {
  const earlier = again(await earlierJob(tx, request));
  if (earlier) return earlier;
  const book = await readBook(tx, wanted.couponId);
  if (book instanceof Refusal) return book;
  const refusal = check(book.value, book.now);
  if (refusal) return refusal;
  const job = {
    id: newId(book.now.getTime()),
    ...wanted,
    madeCount: 0,
    createdAt: book.now,
    endedAt: null,
    failure: null,
  };
  await tx.insert(codeJobs).values(job);
  await recordRequest(tx, { jobId: job.id }, request, book.now);
  // Without the pattern, which may be the text of a code.
  const after = { jobId: job.id, count: job.count };
  return { answer: job, change: { now: book.now, targetId: job.couponId, after } };
}

/** Waits for the batch under way; its row is locked before its coupon, as by those who generate. */
export async function cancelJob(
  tx: Tx,
  jobId: string,
  request: RequestKey | null,
): Promise<Administered<CodeJob> | Refusal> {
  const [row] = await tx.select().from(codeJobs).where(eq(codeJobs.id, jobId)).for("update");
  const earlier = again(await earlierJob(tx, request));
  if (earlier) return earlier;
  if (!row) return new Refusal("CODE_JOB_NOT_FOUND");
  const job = toJob(row);
  if (!job.endedAt)
    await tx.select({ id: coupons.id }).from(coupons).where(eq(coupons.id, job.couponId)).for("no key update");
  const now = await readClock(tx);
  await recordRequest(tx, { jobId }, request, now);
  if (job.endedAt) return ofJob(job, job, now);
  const ended = { endedAt: now, failure: cancelledFailure };
  await tx.update(codeJobs).set(ended).where(eq(codeJobs.id, jobId));
  const { couponId, madeCount, terms } = job;
  const detail = { jobId, codeCount: madeCount, placeCount: madeCount * terms.maxHolders, failure: cancelledFailure };
  await tx.insert(events).values({ kind: "CODES_GENERATED", happenedAt: now, couponId, detail });
  return ofJob(job, { ...job, ...ended }, now);
}

function ofJob(before: CodeJob, job: CodeJob, now: Date): Administered<CodeJob> {
  const known = (one: CodeJob) => ({ state: codeJobState(one), madeCount: one.madeCount });
  const after = { couponId: job.couponId, ...known(job) };
  return { answer: job, change: { now, targetId: job.id, before: known(before), after } };
}

export async function readJob(tx: Tx, jobId: string): Promise<CodeJob | null> {
  const [row] = await tx.select().from(codeJobs).where(eq(codeJobs.id, jobId));
  return row ? toJob(row) : null;
}

export async function listJobs(
  tx: Tx,
  { couponId, states }: JobFilter,
  { size, before }: Page,
): Promise<Rows<CodeJob>> {
  const isOlder = lt(codeJobs.id, before ?? greatestId);
  const most = states ? maxJobsLooked : size;
  const found = await tx
    .select()
    .from(codeJobs)
    .where(couponId === null ? isOlder : and(eq(codeJobs.couponId, couponId), isOlder))
    // With the coupon in it, whatever the statistics: by the ids alone all jobs would be gone through for one coupon's.
    .orderBy(...(couponId === null ? [] : [desc(codeJobs.couponId)]), desc(codeJobs.id))
    .limit(most + 1);
  const looked = found.slice(0, most).map(toJob);
  const wanted = states ? looked.filter((job) => states.includes(codeJobState(job))) : looked;
  const rows = wanted.slice(0, size);
  if (wanted.length > size) return { rows, next: rows.at(-1)!.id };
  return { rows, next: found.length > most ? looked.at(-1)!.id : null };
}

/** A job that nobody works on, and its coupon, null: that was deleted. At random, so that a large job does not hold up small ones. */
export async function findJob(tx: Tx): Promise<{ readonly job: CodeJob; readonly book: Coupon | null } | null> {
  const [row] = await tx
    .select()
    .from(codeJobs)
    .where(isNull(codeJobs.endedAt))
    .orderBy(statement`random()`)
    .limit(1)
    .for("update", { skipLocked: true });
  if (!row) return null;
  const job = toJob(row);
  const book = await readBook(tx, job.couponId);
  return { job, book: book instanceof Refusal ? null : book.value };
}

async function earlierJob(tx: Tx, request: RequestKey | null): Promise<CodeJob | Refusal | null> {
  const earlier = await findEarlier(tx, request);
  if (!earlier || earlier instanceof Refusal) return earlier;
  return readJob(tx, (earlier.answer as { jobId: string }).jobId);
}

function toJob(row: typeof codeJobs.$inferSelect): CodeJob {
  const terms = row.terms as CodeTerms & { expiresAt: string | null };
  return { ...row, terms: { ...terms, expiresAt: terms.expiresAt === null ? null : new Date(terms.expiresAt) } };
}
