import { type CodeJob, codeKey, type NewCode, pickKey } from "../domain/code.js";
import { type CodePattern, codeAt, PatternError, parsePattern, randomCode } from "../domain/code-pattern.js";
import type { Coupon } from "../domain/coupon.js";
import type { GateKeeper } from "../issuing/gate-keeper.js";
import { BoundedCache } from "../platform/bounded-cache.js";
import { steadyMs } from "../platform/clock.js";
import type { FailureLog } from "../platform/failure-log.js";
import { randomBelow, randomFraction } from "../platform/random-numbers.js";
import { inSlices } from "../platform/slices.js";
import type { CodeStore } from "../storage/ports/codes.js";
import type { Job } from "./job-loop.js";

/** Codes generated in one transaction. */
const batchSize = 5_000;
/** The gate's copy of one coupon is dropped at most this often while a job goes on: it may know of less stock than there is. */
const forgetPauseMs = 2_000;
/** A pattern that has less than this many times what is wanted is gone through in a random order, so that it has an end. */
const sparseFactor = 4;
/** Codes of a pattern that are gone through at most; the order takes 4 bytes of memory for each. */
const maxEnumerated = 4_000_000;
/** Batches of random codes without a new one, after which there are taken to be no more. */
const maxEmptyBatches = 20;
/**
 * Numbers of the orders that one replica has in memory, 64 MiB. A job whose order it has forgotten begins with another one, so with many at
 * once it may never come to the end of any: a run without an order weighs as much as so many numbers.
 */
const maxOrdered = 16 * 2 ** 20;
const leastWeight = 10_000;
/** Numbers that are shuffled before other work may go on. */
const shuffleSlice = 100_000;

/** What this replica knows of a job that it has worked on. */
interface Run {
  readonly pattern: CodePattern;
  /** All numbers of the pattern in a random order; null: codes are generated at random. */
  order: Uint32Array | null;
  /** Numbers of the order that were tried. */
  tried: number;
  /** Codes generated for the batch under way. */
  generated: number;
  /** Whether the last batch had codes that were taken. */
  short: boolean;
  emptyBatches: number;
  forgottenAtMs: number;
}

/** Generates the codes of code jobs. Postgres sees to it that each is worked on by one replica at a time. */
export class CodeGenerator implements Job {
  readonly name = "make codes";
  /** Between two runs: they find code jobs that another replica has left. */
  readonly pauseMs = 1_000;
  private readonly runs = new BoundedCache<Run>(maxOrdered, { weightOf });
  private underWay: Promise<void> | null = null;
  private kicked = false;
  private closed = false;

  constructor(
    private readonly store: Pick<CodeStore, "addGenerated">,
    private readonly keeper: Pick<GateKeeper, "invalidate">,
    private readonly log: { info(details: object, message: string): void },
    /** For what goes wrong when it begins at once. */
    private readonly failures: Pick<FailureLog, "failed">,
  ) {}

  /** Ends with the batch under way; another replica goes on. */
  async stop(): Promise<void> {
    this.closed = true;
    await this.underWay?.catch(() => {});
  }

  /** Begins at once, for there is a new job. */
  kick(): void {
    this.kicked = true;
    if (!this.underWay) this.run().catch((error) => this.failures.failed(this.name, error));
  }

  /** Works until there is no code job left that nobody else works on. */
  run(): Promise<void> {
    this.underWay ??= this.workOn().finally(() => {
      this.underWay = null;
    });
    return this.underWay;
  }

  private async workOn(): Promise<void> {
    do {
      this.kicked = false;
      while (!this.closed && (await this.workOnce()));
    } while (this.kicked && !this.closed);
  }

  /** One batch; false: there is no job. */
  private async workOnce(): Promise<boolean> {
    const batch = await this.store.addGenerated((job, book) => this.generate(job, book));
    if (!batch) return false;
    const { job, addedCount } = batch;
    const run = this.runs.get(job.id);
    if (run) {
      if (run.order) run.tried += run.generated;
      run.short = addedCount < run.generated;
      run.emptyBatches = addedCount === 0 ? run.emptyBatches + 1 : 0;
    }
    if (job.endedAt) this.runs.delete(job.id);
    if (job.endedAt || (run && steadyMs() - run.forgottenAtMs >= forgetPauseMs)) {
      if (run) run.forgottenAtMs = steadyMs();
      await this.keeper.invalidate(job.couponId);
    }
    if (job.endedAt) {
      const { id, couponId, madeCount, count, failure } = job;
      this.log.info({ jobId: id, couponId, madeCount, count, failure }, "code job ended");
    }
    return true;
  }

  private async generate(job: CodeJob, book: Coupon): Promise<NewCode[]> {
    const run = this.runs.get(job.id) ?? this.begin(job);
    const { pattern } = run;
    const isDense = pattern.capacity < sparseFactor * job.count;
    const isStuck = run.emptyBatches > 0 && pattern.capacity <= maxEnumerated;
    if (!run.order && (isDense || isStuck)) run.order = await shuffled(pattern.capacity);

    // Where many are taken, many must be tried for the last few.
    const wanted = run.short ? batchSize : Math.min(batchSize, job.count - job.madeCount);
    const { order, tried } = run;
    run.generated = order ? Math.min(wanted, order.length - tried) : run.emptyBatches < maxEmptyBatches ? wanted : 0;
    const { terms } = job;
    return Array.from({ length: run.generated }, (_, n) => {
      const code = order ? codeAt(pattern, order[tried + n] as number) : randomCode(pattern, randomBelow);
      const picked = pickKey(randomFraction(), book.isTypePool ? terms.expiresAt : null);
      return { code, key: codeKey(code, book.codeBook?.exactMatch ?? false), pickKey: picked, terms };
    });
  }

  private begin(job: CodeJob): Run {
    const pattern = parsePattern(job.pattern);
    if (pattern instanceof PatternError) throw new Error(`job ${job.id} has a pattern that ${pattern.description}`);
    const run = { pattern, order: null, tried: 0, generated: 0, short: false, emptyBatches: 0, forgottenAtMs: 0 };
    this.runs.set(job.id, run);
    return run;
  }
}

/** What a run may come to hold, whether it has its order yet or not. */
function weightOf({ pattern }: Run): number {
  return pattern.capacity <= maxEnumerated ? Math.max(pattern.capacity, leastWeight) : leastWeight;
}

/** The numbers from 0 to less than `count`, in any order with the same likelihood. */
async function shuffled(count: number): Promise<Uint32Array> {
  const order = new Uint32Array(count);
  const swapIn = (from: number, to: number) => {
    for (let at = from; at < to; at++) {
      const other = randomBelow(at + 1);
      order[at] = order[other] as number;
      order[other] = at;
    }
  };
  await inSlices(count, swapIn, shuffleSlice);
  return order;
}
