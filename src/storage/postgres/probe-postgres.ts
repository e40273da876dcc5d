import type { Connection } from "./connection.js";
import type { Link } from "./pool.js";

/** Resolves when Postgres answers, and is the server to write to. When `signal` is aborted, the connection is given up; the next probe opens another. */
export async function probePostgres(
  link: Link<Connection> & { confirm(): Promise<void>; discard(): void },
  signal: AbortSignal,
): Promise<void> {
  const giveUp = () => link.discard();
  signal.addEventListener("abort", giveUp, { once: true });
  try {
    await link.take();
    await link.confirm();
  } finally {
    signal.removeEventListener("abort", giveUp);
    link.giveBack();
  }
}
