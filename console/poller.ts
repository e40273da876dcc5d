import { announce } from "./dom.js";
import { Problem } from "./model/problem.js";
import { showState } from "./parts.js";

export interface Task {
  /** How long after one call the next is due, in ms. */
  readonly everyMs: number;
  /** Answers whether it has found anything new. */
  run(signal: AbortSignal): Promise<boolean>;
}

/** However much a page wants to know: between two calls of it at least this long goes by. */
const leastGapMs = 1_100;
/** After so long without anything new it asks half as often, and after the second, a quarter as often. */
const calmAfterMs: readonly number[] = [30_000, 120_000];
const maxPauseMs = 30_000;

/**
 * What a page reads again and again: one call at a time, never two within a second, none while nobody looks, and fewer while
 * nothing happens or the service is away. `onProblem` is told what went wrong, and null when it works again.
 */
export class Poller {
  private readonly due = new Map<Task, number>();
  private readonly stopped = new AbortController();
  private timer: number | undefined;
  private isRunning = false;
  private newsAtMs = performance.now();
  private calledAtMs = Number.NEGATIVE_INFINITY;
  private failures = 0;
  private problem: Problem | undefined;
  private readAtMs: number | undefined;
  private readonly ageTimer: number;

  constructor(
    tasks: readonly Task[],
    private readonly onProblem: (problem: Problem | null) => void,
  ) {
    for (const task of tasks) this.due.set(task, performance.now());
    document.addEventListener("visibilitychange", this.onVisibility);
    window.addEventListener("online", this.onVisibility);
    this.ageTimer = window.setInterval(() => this.showAge(), 1_000);
    this.showAge();
    this.plan();
  }

  /** Reads all anew as soon as may be: something was changed here. */
  hurry(): void {
    const now = performance.now();
    for (const task of this.due.keys()) this.due.set(task, now);
    this.newsAtMs = now;
    this.failures = 0;
    this.plan();
  }

  add(task: Task): void {
    this.due.set(task, performance.now());
    this.plan();
  }

  stop(): void {
    this.stopped.abort();
    window.clearTimeout(this.timer);
    window.clearInterval(this.ageTimer);
    document.removeEventListener("visibilitychange", this.onVisibility);
    window.removeEventListener("online", this.onVisibility);
  }

  private readonly onVisibility = () => {
    if (document.hidden) window.clearTimeout(this.timer);
    else this.hurry();
  };

  private plan(): void {
    window.clearTimeout(this.timer);
    if (this.isRunning || this.stopped.signal.aborted || document.hidden || this.due.size === 0) return;
    const backoffMs = this.failures === 0 ? leastGapMs : Math.min(maxPauseMs, leastGapMs * 2 ** this.failures);
    const atMs = Math.max(Math.min(...this.due.values()), this.calledAtMs + backoffMs);
    this.timer = window.setTimeout(() => void this.next(), Math.max(0, atMs - performance.now()));
  }

  private async next(): Promise<void> {
    const [task] = [...this.due].sort(([, a], [, b]) => a - b)[0] as [Task, number];
    this.isRunning = true;
    this.calledAtMs = performance.now();
    try {
      const isNew = await task.run(this.stopped.signal);
      if (this.stopped.signal.aborted) return;
      if (isNew) this.newsAtMs = performance.now();
      this.readAtMs = performance.now();
      if (this.failures > 0) announce("The connection is back.");
      this.failures = 0;
      this.problem = undefined;
      this.onProblem(null);
    } catch (error) {
      if (this.stopped.signal.aborted) return;
      // What is not of the service is a bug of this page, and is seen in the browser's console.
      if (!(error instanceof Problem)) reportError(error);
      const problem = error instanceof Problem ? error : new Problem("NO_ANSWER", "");
      if (this.failures === 0 && problem.isAway) announce("The connection is lost.");
      this.failures = Math.min(this.failures + 1, 10);
      this.problem = problem;
      this.onProblem(problem);
      // To ask again would tell nothing, and count as guessing.
      if (problem.needsKey) this.due.clear();
    } finally {
      this.isRunning = false;
      const calmMs = performance.now() - this.newsAtMs;
      const slower = 2 ** calmAfterMs.filter((afterMs) => calmMs > afterMs).length;
      if (this.due.has(task)) this.due.set(task, performance.now() + task.everyMs * slower);
      this.showAge();
      this.plan();
    }
  }

  /** How old is what the page shows. */
  private showAge(): void {
    if (this.stopped.signal.aborted) return;
    const state = this.problem ? "lost" : this.readAtMs === undefined ? "begun" : "live";
    const ageS = this.readAtMs === undefined ? undefined : Math.round((performance.now() - this.readAtMs) / 1_000);
    const age =
      ageS === undefined
        ? ""
        : ageS < 1
          ? "just now"
          : ageS < 120
            ? `${ageS} s ago`
            : `${Math.round(ageS / 60)} min ago`;
    showState(
      state,
      state === "live"
        ? `Live · ${age}`
        : state === "lost"
          ? `${this.problem?.label}${age && ` · read ${age}`}`
          : "Connecting",
    );
  }
}
