import { noDeadlineMs } from "../../ports/page.js";
import type { Database } from "../database.js";

/** The tables that have a partition for each month. */
export const tablesOfMonths = ["events", "audit_records"] as const;

/** Makes those of the months to come, and drops those that are older; 0: none. */
export async function keepMonths(
  database: Database,
  table: (typeof tablesOfMonths)[number],
  keepDays: number,
): Promise<{ made: number; dropped: string[] }> {
  const [done] = await database.background.run(
    noDeadlineMs,
    ({ sql }) => sql<{ made: number; dropped: string[] }[]>`
      SELECT made, to_json(dropped) AS dropped FROM keep_months(${table}, coupon_clock(), ${keepDays})`,
  );
  return done ?? { made: 0, dropped: [] };
}
