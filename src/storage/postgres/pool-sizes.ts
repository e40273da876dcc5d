/** Connections of each pool; the probe has one more. */
export interface PoolSizes {
  /** Group commits, and orders of several user coupons. */
  readonly commits: number;
  /** What callers wait for: reads, lists, look-ups. */
  readonly reads: number;
  /** Transactions of administrative calls. 0: they share the connections of the background. */
  readonly writes: number;
  /** What runs by itself: loads of the gate, sweeps, jobs; and statistics. */
  readonly background: number;
}

export const leastPoolSize = 4;

/** What each further connection is for, up to the default size and past it. */
const next: readonly (keyof PoolSizes)[] = [
  "writes",
  "background",
  "commits",
  "commits",
  "reads",
  "commits",
  "writes",
  "commits",
];
const further: readonly (keyof PoolSizes)[] = ["reads", "background", "commits", "reads", "writes"];

/** Shares out the connections that the process may have: all of them, the probe's among them. */
export function poolSizes(total: number): PoolSizes {
  const sizes = { commits: 1, reads: 1, writes: 0, background: 1 };
  for (let left = total - leastPoolSize, at = 0; left > 0; left--, at++) {
    sizes[next[at] ?? (further[(at - next.length) % further.length] as keyof PoolSizes)] += 1;
  }
  return sizes;
}
