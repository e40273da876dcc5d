import type { Measurement } from "./generator.js";
import type { Row } from "./row.js";
import { grouped, median, rounded } from "./support/numbers.js";

export interface RoundEntry extends Measurement {
  readonly round: number;
  readonly row: string;
  /** How the callers proved who they are. */
  readonly auth: string;
}

type Results = Readonly<Record<string, unknown>>;

/** The medians over the rounds under their JSON names, and below them every single number. */
export function resultsOf(rows: readonly Row[], entries: readonly RoundEntry[], generator: string): Results {
  const results: Record<string, unknown> = {};
  const ceiling = rows[0] && middle(entriesOf(rows[0], entries), (one) => one.callsPerSecond);
  for (const [index, row] of rows.entries()) {
    const own = entriesOf(row, entries);
    const callsPerSecond = middle(own, (one) => one.callsPerSecond);
    if (row.requestsPerSecond === undefined) {
      results[`${row.name}Rps`] = rounded(callsPerSecond, 0);
      if (index > 0 && ceiling) results[`${row.name}Ratio`] = rounded(callsPerSecond / ceiling, 3);
    } else {
      results[row.name] = {
        rps: rounded(callsPerSecond, 1),
        p50Ms: rounded(
          middle(own, (one) => one.p50Ms),
          2,
        ),
        p99Ms: rounded(
          middle(own, (one) => one.p99Ms),
          2,
        ),
        errors: sum(own, ({ calls, ok }) => calls - ok),
      };
    }
  }
  return { ...results, generator, rounds: entries };
}

/**
 * Of the calls per second of a row without authentication, what is left with each way of it: the geometric mean of the ratios of
 * all rounds. Who goes second in a round finds warmer stores; each goes first in half of the rounds, and so that cancels out.
 */
export function authRatios(row: Row, entries: readonly RoundEntry[]): Readonly<Record<string, number>> {
  const own = entriesOf(row, entries);
  const plain = new Map(own.filter(({ auth }) => auth === "off").map((entry) => [entry.round, entry.callsPerSecond]));
  if (plain.size === 0) return {};
  const ways = [...new Set(own.map(({ auth }) => auth))].filter((auth) => auth !== "off");
  const ratioOf = (way: string) => {
    const logs = own
      .filter(({ auth }) => auth === way)
      .map(({ round, callsPerSecond }) => Math.log(callsPerSecond / (plain.get(round) as number)));
    return Math.exp(logs.reduce((sum, log) => sum + log, 0) / logs.length);
  };
  return Object.fromEntries(ways.map((way) => [way, rounded(ratioOf(way), 3)]));
}

/** For people: one line a row. */
export function drawTable(rows: readonly Row[], entries: readonly RoundEntry[]): string {
  const ceiling = rows[0] && middle(entriesOf(rows[0], entries), (one) => one.callsPerSecond);
  const widest = Math.max(...rows.map(({ title }) => title.length));
  const head = `  ${"".padEnd(widest)}   calls/s   ratio   p50 ms   p99 ms   errors`;
  const lines = rows.map((row, index) => {
    const own = entriesOf(row, entries);
    const rate = middle(own, (one) => one.callsPerSecond);
    const ratio = row.requestsPerSecond === undefined && index > 0 && ceiling ? (rate / ceiling).toFixed(2) : "";
    const errors = row.requestsPerSecond === undefined ? "" : grouped(sum(own, ({ calls, ok }) => calls - ok));
    const cells = [
      grouped(rate).padStart(7),
      ratio.padStart(5),
      middle(own, (one) => one.p50Ms)
        .toFixed(1)
        .padStart(6),
      middle(own, (one) => one.p99Ms)
        .toFixed(1)
        .padStart(6),
      errors.padStart(6),
    ];
    return `  ${row.title.padEnd(widest)}   ${cells.join("   ")}`;
  });
  return [head, ...lines].join("\n");
}

function entriesOf(row: Row, entries: readonly RoundEntry[]): RoundEntry[] {
  return entries.filter((entry) => entry.row === row.name);
}

function middle(entries: readonly RoundEntry[], number: (entry: RoundEntry) => number): number {
  return median(entries.map(number));
}

function sum(entries: readonly RoundEntry[], number: (entry: RoundEntry) => number): number {
  return entries.reduce((total, entry) => total + number(entry), 0);
}
