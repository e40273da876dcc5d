import type { Sql } from "postgres";
import { errorCode } from "../../src/platform/error-code.js";
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

/** Asks again while others hold the coupons for longer than a batch waits, as queues do: on a busy machine many writers at once do. */
export async function untilFree<T>(work: () => Promise<T>): Promise<T> {
  for (;;) {
    try {
      return await work();
    } catch (error) {
      if (errorCode(error) !== "55P03") throw error;
    }
  }
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
