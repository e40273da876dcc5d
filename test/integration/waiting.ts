import type { Sql } from "postgres";
import { until } from "../support/until.js";

/** Runs `meanwhile` while all of these wait for a coupon's row. */
export async function whileWaiting<T>(
  sql: Sql,
  couponId: string,
  works: readonly (() => Promise<T>)[],
  meanwhile: () => Promise<void>,
): Promise<PromiseSettledResult<T>[]> {
  let running: Promise<T>[] = [];
  await sql.begin(async (tx) => {
    await tx`SELECT FROM coupons WHERE id = ${couponId} FOR UPDATE`;
    running = works.map((work) => work());
    for (const one of running) one.catch(() => {});
    await untilWaiting(sql, works.length);
    await meanwhile();
  });
  return await Promise.allSettled(running);
}

/** Until as many statements as that wait for a lock in this database. */
export function untilWaiting(sql: Sql, count: number): Promise<unknown> {
  return until("all of them wait", async () => {
    const [row] = await sql`
      SELECT count(*)::int AS n FROM pg_stat_activity
      WHERE datname = current_database() AND wait_event_type = 'Lock' AND pid <> pg_backend_pid()`;
    return row?.n === count;
  });
}
