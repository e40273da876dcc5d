import { steadyMs } from "../../platform/clock.js";
import type { Connection } from "./connection.js";
import type { Link } from "./pool.js";

/** What Postgres' clock said, and `steadyMs()` before it was asked and after it had answered. */
export type OnTime = (sentMs: number, theirMs: number, receivedMs: number) => void;

/** Resolves when Postgres answers, and is the server to write to. When `signal` is aborted, the connection is given up; the next probe opens another. */
export async function probePostgres(
  link: Link<Connection> & { confirm(): Promise<void>; discard(): void },
  signal: AbortSignal,
  onTime: OnTime = () => {},
): Promise<void> {
  const giveUp = () => link.discard();
  signal.addEventListener("abort", giveUp, { once: true });
  let hasFailed = true;
  try {
    const { sql } = await link.take();
    await link.confirm();
    const sentMs = steadyMs();
    const [answer] = await sql<[{ ms: number }]>`SELECT millis(coupon_clock()) AS ms`;
    onTime(sentMs, answer.ms, steadyMs());
    hasFailed = false;
  } finally {
    signal.removeEventListener("abort", giveUp);
    link.giveBack(hasFailed);
  }
}
