import type { Connection } from "./connection.js";
import type { Link } from "./pool.js";

/** Resolves when Postgres answers. When `signal` is aborted, the connection is given up; the next probe opens another. */
export async function probePostgres(link: Link<Connection> & { discard(): void }, signal: AbortSignal): Promise<void> {
  const giveUp = () => link.discard();
  signal.addEventListener("abort", giveUp, { once: true });
  try {
    const { sql } = await link.take();
    await sql`SELECT 1`;
  } finally {
    signal.removeEventListener("abort", giveUp);
    link.giveBack();
  }
}
