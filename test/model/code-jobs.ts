import { Catalogue, inOrder } from "./catalogue.js";
import type { Answer, Call, Job } from "./state.js";

/** Codes that are made to a pattern, and codes that are taken back. */
export class CodeJobs extends Catalogue {
  protected generate(call: Call & { method: "generate" }, id: string): Answer {
    const { method: _, requestId, ...wanted } = call;
    const key = `generate ${requestId}`;
    const input = JSON.stringify(wanted);
    const earlier = requestId === "" ? undefined : this.state.answered[key];
    if (earlier && earlier.input !== input) return { refused: "REQUEST_ID_REUSED" };
    // As it is now.
    if (earlier) return this.jobView(this.state.jobs.find((job) => job.id === earlier.answer.id) as Job);
    const book = this.coupon(call.couponId);
    const refused = this.bookRefusal(book);
    if (refused) return { refused };
    const different = new Set([...call.characters].map((one) => this.codeKey(one, book.book))).size;
    const isGood = this.areGood(call.terms, book) && different === call.characters.length && different >= call.count;
    if (!isGood) return { refused: "INVALID_FIELD" };
    const job: Job = { id, ...wanted, made: 0, failure: "", isEnded: false };
    this.state.jobs.push(job);
    const answer = this.jobView(job);
    if (requestId !== "") this.state.answered[key] = { input, answer, at: this.state.now };
    return answer;
  }

  /** Rounds until no job is left. `told`: the codes that there are then, as they are listed. */
  protected runGenerator(told: Answer): Answer {
    const stored = (told.codes ?? []) as { couponId: string; code: string }[];
    const revisions: Record<string, number> = {};
    const running = this.state.jobs.filter(({ isEnded }) => !isEnded);
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
      job.isEnded = true;
      if (book.deletedAt !== null) job.failure = "the coupon was deleted";
      else if (due < job.count) job.failure = "the pattern has no more codes that are not taken";
      this.happened("CODES_GENERATED", job.couponId);
    }
    added.sort((a, b) => a.position - b.position);
    for (const { job, code } of added) this.addCode(job.couponId, code, job.terms);
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

  private jobView({ id, made, failure, isEnded }: Job): Answer {
    return { id, made, failure, state: isEnded ? (failure === "" ? "DONE" : "FAILED") : "RUNNING" };
  }
}
