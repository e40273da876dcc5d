import type { BenchOptions } from "./options.js";

/**
 * A benchmark that brings its own servers and draws its own table, for what does not fit into rows and rounds. It runs
 * when `--rows` names it, or also with all rows. To add one, list it in `rows/index.ts`.
 */
export interface OwnBench {
  readonly name: string;
  /** Whether it runs when `--rows` names none. */
  readonly isPartOfAll: boolean;
  /** What it answers stands in the JSON under its name. */
  run(context: OwnBenchContext): Promise<unknown>;
}

export interface OwnBenchContext {
  readonly options: BenchOptions;
  readonly say: (text: string) => void;
  readonly signal: AbortSignal;
  /** What must be undone when it is over goes here, in the order of doing. */
  readonly cleanups: (() => Promise<unknown>)[];
}
