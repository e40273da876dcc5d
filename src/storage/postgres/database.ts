import { type Connection, type ConnectionOptions, PostgresLink } from "./connection.js";
import { type ErrorReport, ErrorReports } from "./error-report.js";
import { isReadOnly } from "./errors.js";
import { holdFunctions } from "./migrating/release-functions.js";
import { Pool } from "./pool.js";
import { poolSizes } from "./pool-sizes.js";
import { Primary, type PrimaryOptions } from "./primary/primary.js";

export type { Connection } from "./connection.js";

/** Between two checks for connections that say nothing. */
const checkEveryMs = 5_000;

/** Pools by purpose: what callers wait for never waits for a connection that something else holds. */
export interface Database {
  /** Group commits, and orders of several user coupons. */
  readonly commits: Pool<Connection>;
  /** What callers wait for: reads, lists, look-ups. */
  readonly reads: Pool<Connection>;
  /** Transactions of administrative calls. */
  readonly writes: Pool<Connection>;
  /** What runs by itself: loads of the gate, sweeps, jobs; and statistics. */
  readonly background: Pool<Connection>;
  /** Belongs to no pool: asks whether Postgres is there, and holds the lock that keeps this release's functions. */
  readonly probeLink: PostgresLink;
  /** For the metrics; each once. */
  readonly pools: readonly Pool<Connection>[];
  /** performance.now() of the last statement that succeeded, on any pool. */
  readonly lastAnswerMs: number;
  close(): Promise<void>;
}

export interface DatabaseOptions extends Pick<PrimaryOptions, "url" | "onMoved" | "onWatched"> {
  /** Connections at most, 4 to 200. */
  readonly poolSize: number;
  /** Shown in pg_stat_activity. */
  readonly applicationName?: string;
  /** As `readCommitLevel` says; without it, a COMMIT is done when it is on disk here and on standbys that must have it. */
  readonly synchronousCommit?: string;
  /** Each error, by its SQLSTATE or the code of the driver or the network. */
  readonly onError?: (code: string) => void;
  /** Called at most once for each kind of error and minute. */
  readonly onErrors?: (report: ErrorReport) => void;
  /** How long something waited for a connection of the pool, in ms. */
  readonly onTaken?: (pool: string, waitedMs: number) => void;
}

export function openDatabase({
  url,
  poolSize,
  applicationName = "coupon-service",
  synchronousCommit = "on",
  onError = () => {},
  onErrors = () => {},
  onTaken = () => {},
  onMoved = () => {},
  onWatched = () => {},
}: DatabaseOptions): Database {
  const links: PostgresLink[] = [];
  const primary = new Primary({
    ...{ url, applicationName, synchronousCommit, onWatched },
    onMoved: (move) => {
      for (const link of links) link.discardOld();
      onMoved(move);
    },
  });
  const openLink = (more: Pick<ConnectionOptions, "onOpen"> = {}) => {
    const link = new PostgresLink({ primary, applicationName, synchronousCommit, ...more });
    links.push(link);
    return link;
  };
  const errors = new ErrorReports(onErrors, onError);
  let lastAnswerMs = Number.NEGATIVE_INFINITY;
  const events = {
    onTaken,
    onAnswered: () => {
      lastAnswerMs = performance.now();
    },
    onFailed: (error: unknown, isLate: boolean) => {
      // To be asked about at once, by whoever comes next.
      if (isReadOnly(error)) primary.distrust();
      errors.note(error, isLate);
    },
  };
  const openPool = (name: string, size: number) =>
    new Pool({ name, links: Array.from({ length: size }, () => openLink()), events });

  const sizes = poolSizes(poolSize);
  const commits = openPool("commits", sizes.commits);
  const reads = openPool("reads", sizes.reads);
  const background = openPool("background", sizes.background);
  const writes = sizes.writes === 0 ? background : openPool("writes", sizes.writes);
  const checks = setInterval(() => {
    for (const link of links) link.check();
  }, checkEveryMs).unref();
  return {
    commits,
    reads,
    writes,
    background,
    probeLink: openLink({ onOpen: (sql) => holdFunctions(sql).catch((error) => errors.note(error, false)) }),
    pools: [...new Set([commits, reads, writes, background])],
    get lastAnswerMs() {
      return lastAnswerMs;
    },
    close: async () => {
      clearInterval(checks);
      errors.flush();
      await Promise.all([primary.close(), ...links.map((link) => link.close())]);
    },
  };
}
