import type { Code, CodeJob, CodeJobState, CodeStatus, DeleteOutcome, NewCode } from "../../domain/code.js";
import type { Coupon, CouponType } from "../../domain/coupon.js";
import type { Refusal } from "../../domain/refusal.js";
import type { UserCoupon } from "../../domain/user-coupon.js";
import type { AdminCall } from "./audit.js";
import type { DeadlineMs, Page, RequestKey, Rows } from "./page.js";

/** A line of an upload that may be added. */
export interface GoodLine extends NewCode {
  /** Its number, from 1. */
  readonly line: number;
}

/** A line of an upload that was not added. */
export interface RejectedLine {
  readonly line: number;
  /** What is wrong with it; null: its code exists already. */
  readonly message: string | null;
}

/** The lines of an upload; no two good ones have the same key. */
export interface CheckedLines {
  readonly good: readonly GoodLine[];
  readonly rejected: readonly RejectedLine[];
}

/** A code book, or the pool of a type. */
export type CodeTarget = { readonly couponId: string } | { readonly type: CouponType };

export interface Uploaded {
  readonly couponId: string;
  /** Absent: nothing was added, or a release that kept no uploads has stored this answer. */
  readonly uploadId?: string;
  readonly addedCount: number;
  /** In the order of the lines. */
  readonly rejected: readonly RejectedLine[];
}

/** The codes that are to be deleted: those that are named, or what came by an upload or a job, from the code after `after` on. */
export type WhichCodes =
  | { readonly codes: readonly string[] }
  | {
      readonly source: { readonly kind: "upload" | "job"; readonly id: string };
      /** null: from the beginning. */
      readonly after: string | null;
    };

export interface DeletedCodes {
  readonly couponId: string;
  readonly deletedCount: number;
  readonly takenCount: number;
  /** Of codes that were named, in order. */
  readonly outcomes: readonly DeleteOutcome[];
  /** After what the next step goes on; null: all have been looked at. */
  readonly next: string | null;
}

/** Which jobs are wanted. */
export interface JobFilter {
  /** null: of all coupons. */
  readonly couponId: string | null;
  /** Only those that stand so; null: all. */
  readonly states: readonly CodeJobState[] | null;
}

/** One batch of a job. */
export interface JobBatch {
  /** As it is after the batch. */
  readonly job: CodeJob;
  readonly addedCount: number;
}

/** What is to be added next: more than a job still wants may be given, and none says that there are no more. */
export type GenerateBatch = (job: CodeJob, book: Coupon) => Promise<readonly NewCode[]>;

export interface ListedCode {
  readonly code: Code;
  /** The first ten of those who hold it. */
  readonly holders: readonly UserCoupon[];
}

/** Which codes of a coupon are wanted. */
export interface CodeFilter {
  readonly couponId: string;
  /** Only those that stand so; null: all. */
  readonly statuses: readonly CodeStatus[] | null;
  /** When the coupon ends, and the moment that statuses are of. */
  readonly endsAt: Date;
  readonly now: Date;
}

/** Every method throws DeadlinePassed, or StoreUnavailable when Postgres is away or does not answer. */
export interface CodeStore {
  /**
   * Adds the good ones of the lines that `check` answers to a code book or to the pool of a type, which is created if there
   * is none. What exists is never changed, and where nothing was added nothing changes. COUPON_NOT_FOUND for deleted
   * coupons, too; NOT_A_CODE_BOOK; requests as in `CouponStore.create`.
   */
  upload(
    upload: {
      readonly target: CodeTarget;
      readonly request: RequestKey | null;
    },
    check: (book: Coupon, now: Date) => Promise<CheckedLines>,
    call: AdminCall,
  ): Promise<Uploaded | Refusal>;

  /**
   * Begins a job; a repeated request gets the first one's job, as it is now. Refusals as in `upload`, and what `check` has
   * against it.
   */
  beginJob(
    wanted: Pick<CodeJob, "couponId" | "pattern" | "terms" | "count"> & { readonly request: RequestKey | null },
    check: (book: Coupon, now: Date) => Refusal | null,
    call: AdminCall,
  ): Promise<CodeJob | Refusal>;

  /** null: there is none. */
  getJob(jobId: string, deadlineMs: DeadlineMs): Promise<CodeJob | null>;

  /** The newest first. */
  listJobs(filter: JobFilter, page: Page, deadlineMs: DeadlineMs): Promise<Rows<CodeJob>>;

  /** Ends a job, unless it has ended; answers how it stands then. CODE_JOB_NOT_FOUND; requests as in `beginJob`. */
  cancelJob(jobId: string, request: RequestKey | null, call: AdminCall): Promise<CodeJob | Refusal>;

  /**
   * Deletes codes of which no seat is taken, and takes them out of stock: all that are named, or one bounded step through what
   * came by an upload or a job. Refusals as in `upload`, for a deleted pool, too; CODE_UPLOAD_NOT_FOUND, CODE_JOB_NOT_FOUND.
   */
  delete(
    deletion: { readonly target: CodeTarget; readonly which: WhichCodes; readonly request: RequestKey | null },
    call: AdminCall,
  ): Promise<DeletedCodes | Refusal>;

  /**
   * Takes a running job that nobody else works on, and adds some of its codes in one transaction: never more than it still
   * wants. A job ends when all are there, when `generate` gives none, or when its coupon was deleted. null: there is no such
   * job, or another one was faster.
   */
  addGenerated(generate: GenerateBatch): Promise<JobBatch | null>;

  /** Codes in the order in which they were added, from the one after `page.before` on. */
  list(filter: CodeFilter, page: Page, deadlineMs: DeadlineMs): Promise<Rows<ListedCode>>;

  /** Takes codes that have expired out of stock, at most `limit` at once; null: there was none. */
  expire(
    limit: number,
  ): Promise<{ /** Those whose stock has changed. */ readonly couponIds: readonly string[] } | null>;
}
