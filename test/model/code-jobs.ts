import type { Answer, Call, WhichCodes } from "./call.js";
import { Catalogue, inOrder } from "./catalogue.js";
import type { Code, Job } from "./state.js";
import { newestFirst } from "./world.js";

const cancelled = "it was cancelled";

/** Codes that are made to a pattern, and codes that are taken back. */
export class CodeJobs extends Catalogue {
  protected generate(call: Call & { method: "generate" }, id: string): Answer {
    const { method: _, requestId, ...wanted } = call;
    return this.onceForJob("generate", requestId, wanted, () => this.beginJob(call, id));
  }

  private beginJob(call: Call & { method: "generate" }, id: string): Answer | Job {
    const { method: _, requestId: __, ...wanted } = call;
    const book = this.coupon(call.couponId);
    const refused = this.bookRefusal(book);
    if (refused) return { refused };
    const different = new Set([...call.characters].map((one) => this.codeKey(one, book.book))).size;
    const isGood = this.areGood(call.terms, book) && different === call.characters.length && different >= call.count;
    if (!isGood) return { refused: "INVALID_FIELD" };
    const job: Job = { id, ...wanted, made: 0, failure: "", createdAt: this.state.now, endedAt: null };
    this.state.jobs.push(job);
    this.onRecord(call, call.couponId, null, { jobId: id, count: job.count });
    return job;
  }

  protected cancelJob(call: Call & { method: "cancelJob" }): Answer {
    const { jobId, requestId } = call;
    return this.onceForJob("cancelJob", requestId, jobId, () => {
      const job = this.state.jobs.find(({ id }) => id === jobId);
      if (!job) return { refused: "CODE_JOB_NOT_FOUND" };
      const known = () => ({ state: stateOf(job), madeCount: job.made });
      const before = known();
      if (job.endedAt === null) {
        job.endedAt = this.state.now;
        job.failure = cancelled;
        this.codesHappened("CODES_GENERATED", job.couponId, job.made);
      }
      this.onRecord(call, jobId, before, { couponId: job.couponId, ...known() });
      return job;
    });
  }

  /** A repeated request gets the job as it is now. */
  private onceForJob(method: string, requestId: string, asked: unknown, work: () => Answer | Job): Answer {
    const key = `${method} ${requestId}`;
    const input = JSON.stringify(asked);
    const earlier = requestId === "" ? undefined : this.state.answered[key];
    if (earlier && earlier.input !== input) return { refused: "REQUEST_ID_REUSED" };
    if (earlier) return this.jobView(this.state.jobs.find((job) => job.id === earlier.answer.id) as Job);
    const job = work();
    if (!("stem" in job)) return job;
    const answer = this.jobView(job as Job);
    if (requestId !== "") this.state.answered[key] = { input, answer, at: this.state.now };
    return answer;
  }

  protected getJob(jobId: string): Answer {
    const job = this.state.jobs.find(({ id }) => id === jobId);
    return job ? this.jobView(job) : { refused: "CODE_JOB_NOT_FOUND" };
  }

  protected listJobs(couponId: string, states: readonly string[]): Answer {
    const jobs = this.state.jobs.filter(
      (job) => (couponId === "" || job.couponId === couponId) && (states.length === 0 || states.includes(stateOf(job))),
    );
    return { jobs: newestFirst(jobs).map((job) => this.jobView(job)) };
  }

  /** Free ones go, and leave the stock; the others stay as they are. */
  protected deleteCodes(call: Call & { method: "deleteCodes" }): Answer {
    const { target, which } = call;
    const book = "type" in target ? this.typePool(target.type) : this.coupon(target.couponId);
    const refused = book ? this.bookRefusal(book) : "COUPON_NOT_FOUND";
    if (refused || !book) return { refused: refused ?? "" };
    if ("id" in which && !this.isSourceOf(book.id, which))
      return { refused: which.kind === "upload" ? "CODE_UPLOAD_NOT_FOUND" : "CODE_JOB_NOT_FOUND" };
    const own = this.codesOf(book.id);
    const found = (text: string) => own.find((code) => this.keyOf(code) === this.codeKey(text, book.book));
    const meant = "id" in which ? own.filter(({ source }) => source === which.id) : which.codes.map(found);
    const outcomes = meant.map((code) => (!code ? "NOT_FOUND" : code.holders > 0 ? "TAKEN" : "DELETED"));
    const known = [...new Set(meant)].filter((code): code is Code => code !== undefined);
    const free = known.filter(({ holders }) => holders === 0);
    if (free.length > 0) {
      this.state.codes = this.state.codes.filter((code) => !free.includes(code));
      this.countPurged(book.id, { codes: free.length });
      this.revise(book.id, {});
      this.codesHappened("CODES_DELETED", book.id, free.length);
    }
    const [deleted, taken] = [free.length, known.length - free.length];
    const named = "id" in which ? { source: which } : { namedCount: which.codes.length };
    this.onRecord(call, book.id, null, { ...named, deletedCount: deleted, takenCount: taken });
    return { couponId: book.id, deleted, taken, outcomes: "id" in which ? [] : outcomes };
  }

  private isSourceOf(couponId: string, { kind, id }: Exclude<WhichCodes, { codes: unknown }>): boolean {
    const sources = kind === "upload" ? this.state.uploads : this.state.jobs;
    return sources.some((one) => one.id === id && one.couponId === couponId);
  }

  /** Rounds until no job is left. `told`: the codes that there are then, as they are listed. */
  protected runGenerator(told: Answer): Answer {
    const stored = (told.codes ?? []) as { couponId: string; code: string }[];
    const revisions: Record<string, number> = {};
    const running = this.state.jobs.filter(({ endedAt }) => endedAt === null);
    const known = new Set(this.state.codes.map((code) => this.keyOf(code)));
    const added: { job: Job; code: string; position: number }[] = [];
    for (const job of running) {
      const book = this.coupon(job.couponId);
      const possible = [...job.characters].filter((one) => !known.has(this.codeKey(job.stem + one, book.book)));
      const due = book.deletedAt === null ? Math.min(job.count, possible.length) : 0;
      // Which ones is the service's choice.
      const made = stored.flatMap(({ couponId, code }, position) =>
        couponId === job.couponId && possible.some((one) => job.stem + one === code) ? [{ job, code, position }] : [],
      );
      added.push(...made.slice(0, due));
      job.made = due;
      job.endedAt = this.state.now;
      if (book.deletedAt !== null) job.failure = "the coupon was deleted";
      else if (due < job.count) job.failure = "the pattern has no more codes that are not taken";
      this.codesHappened("CODES_GENERATED", job.couponId, due);
    }
    added.sort((a, b) => a.position - b.position);
    for (const { job, code } of added) this.addCode(job.couponId, code, job.terms, job.id);
    for (const { id, deletedAt } of this.state.coupons) {
      const ofCoupon = added.filter(({ job }) => job.couponId === id).length;
      if (ofCoupon === 0 || deletedAt !== null) continue;
      // At most one for each code: where some were taken, the rest takes another batch.
      const { revision } = this.coupon(id);
      const now = (told.revisions as Record<string, number> | undefined)?.[id] ?? 0;
      this.revise(id, {});
      if (now > revision && now <= revision + ofCoupon) this.setCoupon(id, { revision: now });
    }
    for (const { couponId } of running) revisions[couponId] = this.coupon(couponId).revision;
    const codes = this.state.codes
      .filter(({ couponId }) => couponId in revisions && this.coupon(couponId).deletedAt === null)
      .map(({ couponId, code }) => ({ couponId, code }));
    return { jobs: running.map((job) => this.jobView(job)), codes: inOrder(codes), revisions };
  }

  private jobView(job: Job): Answer {
    const { id, couponId, stem, characters, count, made, failure, createdAt, endedAt } = job;
    const asked = { couponId, pattern: `${stem}[${characters}]`, count };
    return { id, ...asked, made, failure, createdAt, endedAt, state: stateOf(job) };
  }
}

function stateOf({ endedAt, failure }: Pick<Job, "endedAt" | "failure">): string {
  if (endedAt === null) return "RUNNING";
  return failure === "" ? "DONE" : failure === cancelled ? "CANCELLED" : "FAILED";
}
