import { steadyMs } from "./clock.js";
import { WrongFile } from "./watched-files.js";

/** Kinds of errors of one work that are told apart; any further ones are one kind. */
const maxKinds = 20;
const otherKind = "other";

/** What fails again sooner than this was not over. */
const calmMs = 5_000;

interface Failing {
  readonly sinceMs: number;
  lastMs: number;
  count: number;
  readonly kinds: Set<string>;
}

export interface FailureLogOptions {
  readonly log: {
    error(details: object, message: string): void;
    warn(details: object, message: string): void;
  };
  readonly now?: () => number;
}

/**
 * Reports failures of what is done again and again: the first of each kind of error, and when it has worked again for a
 * while how often it had failed. What happens in between is seen in metrics.
 */
export class FailureLog {
  private readonly failing = new Map<string, Failing>();
  private readonly now: () => number;

  constructor(private readonly options: FailureLogOptions) {
    this.now = options.now ?? steadyMs;
  }

  /** `work`: one of a few names, not one for each thing that it is done to; that goes into `details`. */
  failed(work: string, error: unknown, details: object = {}): void {
    let failing = this.failing.get(work);
    if (!failing) {
      failing = { sinceMs: this.now(), lastMs: 0, count: 0, kinds: new Set() };
      this.failing.set(work, failing);
    }
    failing.count += 1;
    failing.lastMs = this.now();
    const kind = failing.kinds.size < maxKinds ? kindOf(error) : otherKind;
    if (failing.kinds.has(kind)) return;
    failing.kinds.add(kind);
    this.options.log.error({ work, err: error, ...details }, "work in the background fails");
  }

  succeeded(work: string): void {
    const failing = this.failing.get(work);
    if (!failing || this.now() - failing.lastMs < calmMs) return;
    this.failing.delete(work);
    const { count, sinceMs, lastMs } = failing;
    const details = { work, failures: count, forMs: lastMs - sinceMs };
    this.options.log.warn(details, "work in the background succeeds again");
  }
}

/** Its class and code, and those of what it was caused by; of a file, all that is wrong with it. */
function kindOf(error: unknown): string {
  const kinds: string[] = [];
  for (let at: unknown = error; at instanceof Error && kinds.length < 5; at = at.cause) {
    kinds.push(`${at.name} ${at instanceof WrongFile ? at.message : ((at as { code?: unknown }).code ?? "")}`);
  }
  return kinds.join(" < ") || typeof error;
}
