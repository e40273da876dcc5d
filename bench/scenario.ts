/**
 * A part of the benchmark that brings its own servers and its own kind of load, and is no row of calls a second. To add
 * one, write a folder beside `overload/` and list it in `scenarios.ts`; it is run when `--rows` names it.
 */
export interface Scenario {
  readonly name: string;
  run(context: ScenarioContext): Promise<ScenarioResult>;
}

export interface ScenarioContext {
  say(text: string): void;
  readonly signal: AbortSignal;
  /** A folder for files, removed afterwards. */
  readonly folder: string;
  /** What must be undone at the end, in the order of doing. */
  onCleanup(cleanup: () => Promise<unknown>): void;
}

export interface ScenarioResult {
  /** Under the scenario's name in the JSON. */
  readonly json: unknown;
  readonly table: string;
}
