import { steadyMs } from "../../platform/clock.js";
import { errorCode } from "../../platform/error-code.js";
import { causeOf } from "./errors.js";

/** Between two reports of the same kind of error. */
const reportEveryMs = 60_000;
/** Kinds that are told apart; the others count as one. There are some 250 SQLSTATEs. */
const maxKinds = 500;
const otherKind = "other";

export interface ErrorReport {
  /** The SQLSTATE, or the code of the driver or the network. */
  readonly code: string;
  /** Errors of this kind since the last report, this one among them. */
  readonly count: number;
  /** Those of them that came when nobody waited for the answer any more. */
  readonly lateCount: number;
  /** What the latest says. */
  readonly message: string;
}

/**
 * Makes one report of each kind of error and minute. What a caller is told of an error is one word, and what comes after
 * its deadline it is never told: this is where the rest is found.
 */
export class ErrorReports {
  private readonly kinds = new Map<string, { untilMs: number; count: number; lateCount: number; error: unknown }>();

  constructor(
    private readonly report: (report: ErrorReport) => void,
    private readonly count: (code: string) => void = () => {},
    private readonly now: () => number = steadyMs,
  ) {}

  /** An error without a code is one of ours; its caller gets it whole, if there still is one. */
  note(error: unknown, isLate: boolean): void {
    const code = errorCode(error) ?? (isLate ? otherKind : undefined);
    if (code === undefined) return;
    const name = this.kinds.has(code) || this.kinds.size < maxKinds ? code : otherKind;
    this.count(name);
    const kind = this.kinds.get(name) ?? { untilMs: 0, count: 0, lateCount: 0, error };
    this.kinds.set(name, kind);
    kind.count += 1;
    if (isLate) kind.lateCount += 1;
    kind.error = error;
    if (this.now() >= kind.untilMs) this.say(name);
  }

  /** Reports what has come since the last reports. */
  flush(): void {
    for (const [name, { count }] of this.kinds) if (count > 0) this.say(name);
  }

  private say(code: string): void {
    const kind = this.kinds.get(code);
    if (!kind) return;
    const { count, lateCount, error } = kind;
    this.kinds.set(code, { untilMs: this.now() + reportEveryMs, count: 0, lateCount: 0, error: null });
    this.report({ code, count, lateCount, message: String(causeOf(error)) });
  }
}
