import type { FailureLog } from "../platform/failure-log.js";

/** Something that this process does by itself, again and again. Every replica runs each of them; doing it twice does no harm. */
export interface Job {
  /** As logs and metrics call it. */
  readonly name: string;
  /** Between the end of one run and the next. */
  readonly pauseMs: number;
  /** One run: bounded, so that `stop` does not wait for long. What it throws is reported. */
  run(): Promise<void>;
  /** No further run begins. Resolves when what is under way besides has ended, as soon as it can. */
  stop?(): Promise<void>;
}

export type JobOutcome = "OK" | "FAILED";

export interface JobMetrics {
  jobRan(job: string, outcome: JobOutcome): void;
}

/** Before the first run: a job with longer pauses would never come to one where replicas are replaced more often than that. */
const maxFirstPauseMs = 3_600_000;

/** Runs a job after each pause, until it is closed. */
export class JobLoop {
  private timer: NodeJS.Timeout | undefined;
  private underWay: Promise<void> = Promise.resolve();
  private isClosed = false;

  constructor(
    private readonly job: Job,
    private readonly failures: FailureLog,
    private readonly metrics: JobMetrics,
  ) {}

  start(): void {
    this.runAfter(Math.min(this.job.pauseMs, maxFirstPauseMs));
  }

  /** The next run begins now, or when the one under way is done. For a job that was started. */
  hurry(): void {
    clearTimeout(this.timer);
    this.underWay = this.underWay.then(() => {
      clearTimeout(this.timer);
      return this.runAndGoOn();
    });
  }

  /** Resolves when the run under way is done. */
  async close(): Promise<void> {
    this.isClosed = true;
    clearTimeout(this.timer);
    await this.job.stop?.();
    await this.underWay;
  }

  private runAfter(pauseMs: number): void {
    if (this.isClosed) return;
    this.timer = setTimeout(
      () => {
        this.underWay = this.runAndGoOn();
      },
      // Replicas that started together do not work in step for ever.
      pauseMs * (0.75 + Math.random() / 2),
    );
  }

  private async runAndGoOn(): Promise<void> {
    if (this.isClosed) return;
    await this.run();
    this.runAfter(this.job.pauseMs);
  }

  private async run(): Promise<void> {
    const { name } = this.job;
    try {
      await this.job.run();
      this.failures.succeeded(name);
      this.metrics.jobRan(name, "OK");
    } catch (error) {
      this.failures.failed(name, error);
      this.metrics.jobRan(name, "FAILED");
    }
  }
}
