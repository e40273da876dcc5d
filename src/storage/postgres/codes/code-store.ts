import { and, eq, isNull, sql as statement } from "drizzle-orm";
import type { CodeJob } from "../../../domain/code.js";
import { type Coupon, type CouponType, typePoolDefinition } from "../../../domain/coupon.js";
import { Refusal } from "../../../domain/refusal.js";
import { newId } from "../../../platform/new-id.js";
import type { AdminCall } from "../../ports/audit.js";
import type {
  CheckedLines,
  CodeFilter,
  CodeStore,
  DeletedCodes,
  GenerateBatch,
  JobBatch,
  JobFilter,
  Uploaded,
} from "../../ports/codes.js";
import { type Dated, type DeadlineMs, noDeadlineMs, type Page, type RequestKey, type Rows } from "../../ports/page.js";
import { type Administered, administer, again, couponSnapshot, record } from "../audit/administer.js";
import { fromDefinition } from "../coupons/coupon-row.js";
import { passingHeld } from "../coupons/held-coupons.js";
import type { Connection, Database } from "../database.js";
import { longStatementTimeoutMs } from "../errors.js";
import { clock, findEarlier, readClock, recordRequest, type Tx } from "../requests.js";
import { coupons, events } from "../schema.js";
import { BookDeleted, insertCodes, listOf, stockCodes } from "./add-codes.js";
import { beginJob, bookOf, cancelJob, findJob, listJobs, readBook, readJob, type WantedJob } from "./code-jobs.js";
import { listCodes } from "./code-page.js";
import { type Deletion, deleteCodes, maxCodesPerStep } from "./delete-codes.js";

/** An upload takes longer than other calls, also because it may have to wait for another one with the same codes. */
const uploadTimeoutMs = longStatementTimeoutMs + 5_000;

type Upload = Parameters<CodeStore["upload"]>[0];

export class PostgresCodeStore implements CodeStore {
  constructor(private readonly database: Database) {}

  async upload(
    { target, request }: Upload,
    check: (book: Coupon, now: Date) => Promise<CheckedLines>,
    call: AdminCall,
  ): Promise<Uploaded | Refusal> {
    const { deadlineMs } = call;
    const { writes } = this.database;
    const earlier = await writes.run(deadlineMs, ({ orm }) => earlierUpload(orm, request));
    if (earlier) return earlier;
    const book = await writes.run(deadlineMs, ({ orm }) =>
      "type" in target ? openTypePool(orm, target.type, call) : readBook(orm, target.couponId),
    );
    if (book instanceof Refusal) return book;
    const lines = await check(book.value, book.now);
    const work = async (tx: Tx) =>
      again(await earlierUpload(tx, request)) ?? (await addLines(tx, book.value.id, lines, request));
    try {
      return await administer(this.database, call, request, work, uploadTimeoutMs);
    } catch (error) {
      if (error instanceof BookDeleted) return new Refusal("COUPON_NOT_FOUND");
      throw error;
    }
  }

  async beginJob(
    { request, ...wanted }: WantedJob & { readonly request: RequestKey | null },
    check: (book: Coupon, now: Date) => Refusal | null,
    call: AdminCall,
  ): Promise<CodeJob | Refusal> {
    return await administer(this.database, call, request, (tx) => beginJob(tx, wanted, request, check));
  }

  getJob(jobId: string, deadlineMs: DeadlineMs): Promise<CodeJob | null> {
    return this.database.reads.run(deadlineMs, ({ orm }) => readJob(orm, jobId));
  }

  listJobs(filter: JobFilter, page: Page, deadlineMs: DeadlineMs): Promise<Rows<CodeJob>> {
    return this.database.reads.run(deadlineMs, ({ orm }) => listJobs(orm, filter, page));
  }

  cancelJob(jobId: string, request: RequestKey | null, call: AdminCall): Promise<CodeJob | Refusal> {
    return administer(this.database, call, request, (tx) => cancelJob(tx, jobId, request));
  }

  delete(deletion: Deletion, call: AdminCall, mostLooked = maxCodesPerStep): Promise<DeletedCodes | Refusal> {
    return administer(this.database, call, deletion.request, (tx) => deleteCodes(tx, deletion, mostLooked));
  }

  async addGenerated(generate: GenerateBatch): Promise<JobBatch | null> {
    const { background } = this.database;
    const found = await background.run(noDeadlineMs, ({ orm }) => findJob(orm));
    if (!found) return null;
    const { job, book } = found;
    const generated = await listOf(book ? await generate(job, book) : []);
    const [made] = await background.run(
      noDeadlineMs,
      ({ sql }) => sql<(Pick<CodeJob, "madeCount" | "endedAt" | "failure"> & { addedCount: number })[]>`
        SELECT * FROM generate_codes(${job.id}, ${generated}::text::json)`,
    );
    if (!made) return null;
    const { addedCount, ...changed } = made;
    return { job: { ...job, ...changed }, addedCount };
  }

  list(filter: CodeFilter, page: Page, deadlineMs: DeadlineMs) {
    return listCodes(this.database, filter, page, deadlineMs);
  }

  async expire(limit: number): Promise<{ couponIds: string[] } | null> {
    const rows = await passingHeld((skipHeld) =>
      this.database.background.run(
        noDeadlineMs,
        ({ sql }) => sql<{ couponId: string; expiredCount: number }[]>`
          SELECT * FROM expire_codes(${limit}, ${skipHeld})`,
      ),
    );
    if (rows.length === 0) return null;
    return { couponIds: rows.filter((row) => row.expiredCount > 0).map((row) => row.couponId) };
  }
}

/** The pool of a type; whoever comes first creates it. */
async function openTypePool(
  orm: Connection["orm"],
  type: CouponType,
  call: AdminCall,
): Promise<Dated<Coupon> | Refusal> {
  const ofType = and(eq(coupons.type, type), eq(coupons.isPool, true), isNull(coupons.deletedAt));
  const [known] = await orm.select({ row: coupons, now: clock }).from(coupons).where(ofType);
  if (known) return bookOf(known);
  await orm.transaction(async (transaction) => {
    const tx = transaction as unknown as Tx;
    const now = await readClock(tx);
    const [row] = await tx
      .insert(coupons)
      .values({
        id: newId(now.getTime()),
        ...fromDefinition(typePoolDefinition(type, now)),
        isPool: true,
        createdAt: now,
        updatedAt: now,
      })
      .onConflictDoNothing()
      .returning();
    if (!row) return;
    await tx.insert(events).values({ kind: "COUPON_CREATED", happenedAt: now, couponId: row.id, detail: row });
    // The pool stays, whatever becomes of the upload.
    await record(tx, call, { now, targetId: row.id, after: couponSnapshot(row) });
  });
  const [made] = await orm.select({ row: coupons, now: clock }).from(coupons).where(ofType);
  return bookOf(made);
}

async function addLines(
  tx: Tx,
  couponId: string,
  { good, rejected }: CheckedLines,
  request: RequestKey | null,
): Promise<Administered<Uploaded>> {
  await tx.execute(statement.raw(`SET LOCAL statement_timeout = ${longStatementTimeoutMs}`));
  await tx.execute(statement.raw(`SET LOCAL lock_timeout = ${longStatementTimeoutMs}`));
  const uploadId = newId((await readClock(tx)).getTime());
  const inserted = await insertCodes(tx, couponId, uploadId, good);
  const duplicates = inserted.taken.map((index) => ({ line: good[index]!.line, message: null }));
  const { codeCount, seatCount } = inserted;
  const uploaded: Uploaded = {
    couponId,
    ...(codeCount > 0 && { uploadId }),
    addedCount: codeCount,
    rejected: [...rejected, ...duplicates].sort((a, b) => a.line - b.line),
  };
  const duplicateCount = uploaded.rejected.filter(({ message }) => message === null).length;
  const invalidCount = uploaded.rejected.length - duplicateCount;
  const after = { ...(codeCount > 0 && { uploadId }), addedCount: codeCount, duplicateCount, invalidCount };
  if (codeCount === 0) {
    const now = await readClock(tx);
    await recordRequest(tx, uploaded, request, now);
    return { answer: uploaded, change: { now, targetId: couponId, after } };
  }
  const now = await stockCodes(tx, couponId, inserted);
  const detail = { uploadId, codeCount, placeCount: seatCount };
  await tx.insert(events).values({ kind: "CODES_UPLOADED", happenedAt: now, couponId, detail });
  await recordRequest(tx, uploaded, request, now);
  return { answer: uploaded, change: { now, targetId: couponId, after } };
}

async function earlierUpload(tx: Tx, request: RequestKey | null): Promise<Uploaded | Refusal | null> {
  const earlier = await findEarlier(tx, request);
  return !earlier || earlier instanceof Refusal ? earlier : (earlier.answer as Uploaded);
}
