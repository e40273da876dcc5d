import { type Dated, type DeadlineMs, noDeadlineMs } from "../../ports/page.js";
import type { Stats, StatsScope, StatsStore } from "../../ports/stats.js";
import type { Database } from "../database.js";
import { longStatementTimeoutMs } from "../errors.js";

/**
 * Coupons, user coupons that fell due and cancelled usages, of each, that are read for one answer at most: a few hundredths of
 * a second's work. Above that, answers of all and of a type are those that were kept last.
 */
const maxRead = 1_000;

export class PostgresStatsStore implements StatsStore {
  constructor(
    private readonly database: Database,
    private readonly options = { maxRead },
  ) {}

  async read({ couponId, type }: StatsScope, deadlineMs: DeadlineMs): Promise<Dated<Stats> | null> {
    const most = this.options.maxRead;
    const [row] = await this.database.background.run(
      deadlineMs,
      ({ sql }) => sql<(Stats & { now: Date })[]>`SELECT * FROM read_stats(${couponId}::uuid, ${type}::text, ${most})`,
    );
    const { now, ...value } = row as Stats & { now: Date };
    return couponId !== null && value.couponCount === 0 ? null : { value, now };
  }

  async keep(): Promise<void> {
    await this.database.background.run(
      noDeadlineMs,
      ({ sql }) =>
        sql.begin(async (tx) => {
          await tx.unsafe(`SET LOCAL statement_timeout = ${longStatementTimeoutMs}`);
          await tx`SELECT keep_stats(${this.options.maxRead})`;
        }),
      longStatementTimeoutMs + 1_000,
    );
  }
}
