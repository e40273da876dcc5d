import type { EventStore } from "../../ports/events.js";
import type { Database } from "../database.js";

/** Serves nobody who waits. */
const noDeadlineMs = Number.POSITIVE_INFINITY;

export class PostgresEventStore implements EventStore {
  constructor(private readonly database: Database) {}

  async keep(keepDays: number): Promise<{ made: number; dropped: string[] }> {
    const [done] = await this.database.background.run(
      noDeadlineMs,
      ({ sql }) => sql<{ made: number; dropped: string[] }[]>`
        SELECT made, to_json(dropped) AS dropped FROM keep_event_partitions(coupon_clock(), ${keepDays})`,
    );
    return done ?? { made: 0, dropped: [] };
  }
}
