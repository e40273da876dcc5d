import { grouped } from "../bench/support/numbers.js";
import type { CrowdReport } from "./crowd.js";
import type { DemoOptions } from "./options.js";
import { type Paint, paintFor } from "./paint.js";

/** How often a line is written where nothing can be redrawn. */
const lineEveryMs = 2_000;
/** The rate that is shown is that of the last second or so. */
const rateWindowMs = 1_000;
const barWidth = 40;
const cursorUp = (lines: number) => `\u001b[${lines}A`;
const eraseToEnd = "\u001b[J";

/** Live progress: a few lines that are redrawn on a terminal, a line now and then elsewhere. */
export class Screen {
  readonly paint: Paint;
  readonly #out: NodeJS.WriteStream;
  readonly #options: DemoOptions;
  readonly #live: boolean;
  #drawnLines = 0;
  #lastLineAtMs = 0;
  #points: { readonly atMs: number; readonly completed: number }[] = [];

  constructor(options: DemoOptions) {
    this.#options = options;
    this.#out = options.json ? process.stderr : process.stdout;
    this.#live = this.#out.isTTY === true && !options.json;
    this.paint = paintFor(this.#live && process.env.NO_COLOR === undefined);
  }

  say(text = ""): void {
    this.#out.write(`${text}\n`);
    this.#drawnLines = 0;
  }

  /** `remaining` is what the API last said. */
  progress(report: CrowdReport, remaining: number, last = false): void {
    const nowMs = performance.now();
    const rate = this.#rate(nowMs, report.completed);
    if (this.#live) {
      const lines = this.#frame(report, remaining, rate);
      const home = this.#drawnLines > 0 ? cursorUp(this.#drawnLines) : "";
      this.#out.write(`${home}${eraseToEnd}${lines.join("\n")}\n`);
      this.#drawnLines = lines.length;
    } else if (last || nowMs - this.#lastLineAtMs >= lineEveryMs) {
      this.#lastLineAtMs = nowMs;
      this.#out.write(`${this.#line(report, remaining, rate)}\n`);
    }
  }

  #rate(nowMs: number, completed: number): number {
    this.#points.push({ atMs: nowMs, completed });
    while (this.#points.length > 2 && nowMs - this.#points[1]!.atMs >= rateWindowMs) this.#points.shift();
    const first = this.#points[0]!;
    const seconds = (nowMs - first.atMs) / 1_000;
    return seconds > 0 ? (completed - first.completed) / seconds : 0;
  }

  #frame(report: CrowdReport, remaining: number, rate: number): string[] {
    const { bold, dim, green, red, cyan } = this.paint;
    const filled = Math.round((remaining / this.#options.quantity) * barWidth);
    const bar = cyan("█".repeat(filled)) + dim("░".repeat(barWidth - filled));
    const errors = `errors ${grouped(report.errors)}`;
    return [
      `  stock     ${bar}  ${bold(grouped(remaining))} of ${grouped(this.#options.quantity)} left`,
      `  requests  ${grouped(report.completed)} of ${grouped(this.#options.requests)} answered, ${bold(grouped(rate))}/s, ${report.durationS.toFixed(1)} s`,
      `  answers   ${green(`issued ${grouped(report.issued)}`)}  sold out ${grouped(report.soldOut)}  already issued ${grouped(report.alreadyIssued)}  replayed ${grouped(report.replayed)}  ${report.errors > 0 ? red(errors) : errors}  ${dim(`retried ${grouped(report.retries)}`)}`,
      `  latency   p50 ${bold(report.p50Ms.toFixed(1))} ms  p99 ${bold(report.p99Ms.toFixed(1))} ms  slowest ${report.maxMs.toFixed(0)} ms`,
    ];
  }

  #line(report: CrowdReport, remaining: number, rate: number): string {
    return (
      `${report.durationS.toFixed(1).padStart(5)} s  ${grouped(remaining).padStart(6)} left  ${grouped(rate).padStart(6)}/s  ` +
      `issued ${grouped(report.issued)}, sold out ${grouped(report.soldOut)}, already issued ${grouped(report.alreadyIssued)}, ` +
      `replayed ${grouped(report.replayed)}, errors ${grouped(report.errors)}, retried ${grouped(report.retries)}; ` +
      `p50 ${report.p50Ms.toFixed(1)} ms, p99 ${report.p99Ms.toFixed(1)} ms`
    );
  }
}
