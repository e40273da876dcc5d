import type { Dated, DeadlineMs } from "../../ports/page.js";
import type { Stats, StatsScope, StatsStore } from "../../ports/stats.js";
import type { Database } from "../database.js";

export class PostgresStatsStore implements StatsStore {
  constructor(private readonly database: Database) {}

  async read({ couponId, type }: StatsScope, deadlineMs: DeadlineMs): Promise<Dated<Stats> | null> {
    const [row] = await this.database.background.run(
      deadlineMs,
      ({ sql }) => sql<(Stats & { now: Date })[]>`SELECT * FROM coupon_stats(${couponId}::uuid, ${type}::text)`,
    );
    const { now, ...value } = row as Stats & { now: Date };
    return couponId !== null && value.couponCount === 0 ? null : { value, now };
  }
}
