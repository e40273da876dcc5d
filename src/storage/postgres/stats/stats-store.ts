import { SharedReads } from "../../../platform/shared-reads.js";
import { type Dated, type DeadlineMs, noDeadlineMs } from "../../ports/page.js";
import type { Stats, StatsScope, StatsStore } from "../../ports/stats.js";
import { FewAtOnce } from "../coupons/few-at-once.js";
import type { Database } from "../database.js";
import { guarded, longStatementTimeoutMs, statementTimeoutMs } from "../errors.js";

/**
 * Coupons, user coupons that fell due and cancelled usages, of each, that are read for one answer at most: a few hundredths of
 * a second's work. Above that, answers of all and of a type are those that were kept last.
 */
const maxRead = 1_000;

export class PostgresStatsStore implements StatsStore {
  private readonly oneAtOnce = new FewAtOnce(1, statementTimeoutMs);
  /** By scope. Of a large coupon one takes seconds: however many ask, and for what, jobs and sweeps have their turn between two. */
  private readonly answers = new SharedReads<string, Dated<Stats> | null>((scope) =>
    this.oneAtOnce.run(["statistics"], () => this.readNow(JSON.parse(scope))),
  );

  constructor(
    private readonly database: Database,
    private readonly options = { maxRead },
  ) {}

  read(scope: StatsScope, deadlineMs: DeadlineMs): Promise<Dated<Stats> | null> {
    return guarded(deadlineMs, () => this.answers.read(JSON.stringify(scope)));
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

  private async readNow({ couponId, type }: StatsScope): Promise<Dated<Stats> | null> {
    const most = this.options.maxRead;
    const [row] = await this.database.background.run(
      noDeadlineMs,
      ({ sql }) => sql<(Stats & { now: Date })[]>`SELECT * FROM read_stats(${couponId}::uuid, ${type}::text, ${most})`,
    );
    const { now, ...value } = row as Stats & { now: Date };
    return couponId !== null && value.couponCount === 0 ? null : { value, now };
  }
}
