import { eq, sql } from "drizzle-orm";
import type { OwnLimits } from "../../../domain/caller-limits.js";
import { Refusal } from "../../../domain/refusal.js";
import type { AdminCall } from "../../ports/audit.js";
import type { CallerStore } from "../../ports/callers.js";
import type { DeadlineMs, RequestKey } from "../../ports/page.js";
import { type Administered, administer, again } from "../audit/administer.js";
import type { Database } from "../database.js";
import { findEarlier, readClock, recordRequest } from "../requests.js";
import { callerKeys, callers } from "../schema.js";

interface Held {
  readonly limits: OwnLimits | null;
}

export class PostgresCallerStore implements CallerStore {
  constructor(private readonly database: Database) {}

  setLimits(
    caller: string,
    limits: OwnLimits | null,
    request: RequestKey | null,
    call: AdminCall,
  ): Promise<Held | Refusal> {
    return administer(this.database, call, request, async (tx): Promise<Administered<Held> | Refusal> => {
      const [row] = await tx.select().from(callers).where(eq(callers.name, caller)).for("no key update");
      const now = await readClock(tx);
      const found = await findEarlier(tx, request);
      const earlier = again(found instanceof Refusal || !found ? found : (found.answer as Held));
      if (earlier) return earlier;
      if (!row) return new Refusal("CALLER_NOT_FOUND");
      await tx.update(callers).set({ limits }).where(eq(callers.name, caller));
      // Copies of the keys have the limits in them.
      await tx.update(callerKeys).set({ changedXid: sql`pg_current_xact_id()` }).where(eq(callerKeys.caller, caller));
      await recordRequest(tx, { limits }, request, now);
      const before = { caller: { name: caller, limits: row.limits } };
      const after = { caller: { name: caller, limits } };
      return { answer: { limits }, change: { now, targetId: caller, before, after } };
    });
  }

  getLimits(caller: string, deadlineMs: DeadlineMs): Promise<Held | Refusal> {
    return this.database.reads.run(deadlineMs, async ({ sql }) => {
      const [row] = await sql<Held[]>`SELECT limits FROM callers WHERE name = ${caller}`;
      return row ?? new Refusal("CALLER_NOT_FOUND");
    });
  }
}
