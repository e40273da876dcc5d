import {
  idleInTransactionTimeoutMs,
  lockTimeoutMs,
  longStatementTimeoutMs,
  queryTimeoutMs,
  statementTimeoutMs,
} from "../storage/postgres/errors.js";
import { leastPoolSize, type PoolSizes, poolSizes } from "../storage/postgres/pool-sizes.js";

/** The queues that commit. Each may have one batch under way; in this order they get a second one. */
const queues = ["issue", "lock", "issueCode", "use"] as const;
/** Those whose next batch should be at hand when one is done. What a commit costs the others is shared by its rows. */
const withSecond: readonly Queue[] = ["issue", "lock"];
/** Coupons that one replica loads into the gate at once. */
const maxLoads = 8;

type Queue = (typeof queues)[number];

export interface Bounds {
  readonly pools: PoolSizes;
  /** Batches under way at once, of each queue that commits. */
  readonly batches: Readonly<Record<Queue, number>>;
  readonly loads: number;
}

/** What may be under way at once, so that nothing waits for a connection that it could have had. */
export function boundsOf(poolSize: number): Bounds {
  const pools = poolSizes(poolSize);
  const batches = Object.fromEntries(queues.map((queue) => [queue, 1])) as Record<Queue, number>;
  let left = pools.commits - queues.length;
  for (const queue of withSecond) {
    if (left <= 0) break;
    batches[queue] = 2;
    left -= 1;
  }
  return { pools, batches, loads: Math.max(1, Math.min(maxLoads, pools.background - 1)) };
}

/** Throws, and says what to change, unless the bounds fit each other. The one place where they are held together. */
export function assertBounds({ pools, batches, loads }: Bounds, { poolSize }: { readonly poolSize: number }): void {
  const { commits, reads, writes, background } = pools;
  const batchCount = Object.values(batches).reduce((sum, count) => sum + count, 0);
  const rules: [boolean, string][] = [
    [
      commits + reads + writes + background + 1 === poolSize,
      `pools of ${commits}, ${reads}, ${writes} and ${background} connections and one for the probe are not ${poolSize}`,
    ],
    [
      Math.min(commits, reads, background) >= 1 && (writes >= 1 || poolSize === leastPoolSize),
      `a pool has no connection: DATABASE_POOL_SIZE must be at least ${leastPoolSize}`,
    ],
    [
      batchCount <= Math.max(commits, queues.length),
      `${batchCount} batches at once need as many connections in the pool for commits, which has ${commits}`,
    ],
    [
      loads < background || (loads === 1 && background === 1),
      `${loads} loads of the gate at once leave no connection of ${background} in the background to the sweeps`,
    ],
    [
      lockTimeoutMs < statementTimeoutMs && statementTimeoutMs < queryTimeoutMs,
      "a wait for a lock must end before its statement, and a statement before those who wait for it give up",
    ],
    [
      idleInTransactionTimeoutMs <= longStatementTimeoutMs,
      "a transaction must not be left alone for longer than its longest statement",
    ],
  ];
  const broken = rules.flatMap(([holds, what]) => (holds ? [] : [`  ${what}`]));
  if (broken.length > 0) throw new Error(`these bounds do not fit each other:\n${broken.join("\n")}`);
}
