import type { Database } from "./database.js";
import { guarded } from "./errors.js";

const pingTimeoutMs = 1_000;

/** Rejects unless Postgres answers at once. */
export async function ping(database: Database): Promise<void> {
  await guarded(Date.now() + pingTimeoutMs, () => database.pulse.take().sql`SELECT 1`);
}
