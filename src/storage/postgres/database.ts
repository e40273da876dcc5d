import { type Connection, PostgresLink } from "./connection.js";
import { Pool } from "./pool.js";
import { poolSizes } from "./pool-sizes.js";

export type { Connection } from "./connection.js";

/** Batches of one queue that are committed at once. */
export const commitsPerQueue = 2;

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
  /** Belongs to no pool: asks whether Postgres is there. */
  readonly pulse: PostgresLink;
  close(): Promise<void>;
}

export interface DatabaseOptions {
  readonly url: string;
  /** Connections at most, 4 to 200. */
  readonly poolSize: number;
  /** Shown in pg_stat_activity. */
  readonly applicationName?: string;
}

export function openDatabase({ url, poolSize, applicationName = "coupon-service" }: DatabaseOptions): Database {
  const links: PostgresLink[] = [];
  const openLink = () => {
    const link = new PostgresLink({ url, applicationName });
    links.push(link);
    return link;
  };
  const openPool = (name: string, size: number) => new Pool({ name, links: Array.from({ length: size }, openLink) });

  const sizes = poolSizes(poolSize);
  const background = openPool("background", sizes.background);
  return {
    commits: openPool("commits", sizes.commits),
    reads: openPool("reads", sizes.reads),
    writes: sizes.writes === 0 ? background : openPool("writes", sizes.writes),
    background,
    pulse: openLink(),
    close: async () => {
      await Promise.all(links.map((link) => link.close()));
    },
  };
}
