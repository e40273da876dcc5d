import { steadyMs } from "../../platform/clock.js";

const longestMs = 2 ** 31 - 1;

/**
 * How long from now on each item of a batch may still be decided, in whole ms; null: for ever. To be asked when the
 * statement is sent.
 */
export function patienceOf(items: readonly { readonly untilMs?: number }[]): (number | null)[] {
  const now = steadyMs();
  return items.map(({ untilMs = Number.POSITIVE_INFINITY }) =>
    Number.isFinite(untilMs) ? Math.min(Math.max(0, Math.floor(untilMs - now)), longestMs) : null,
  );
}
