import type { EventStore } from "../storage/ports/events.js";
import type { Job } from "./job-loop.js";

/** Has a partition ready for each month to come, and removes the months that are older than they are kept: of events, say. */
export class MonthKeeper implements Job {
  /** Months are made half a year ahead, so this may fail for long before it matters. */
  readonly pauseMs = 3_600_000;

  constructor(
    readonly name: string,
    private readonly store: Pick<EventStore, "keep">,
    /** Days after its end for which a month is kept; 0: for ever. */
    private readonly keepDays: number,
    private readonly log: { info(details: object, message: string): void },
  ) {}

  async run(): Promise<void> {
    const { made, dropped } = await this.store.keep(this.keepDays);
    if (made > 0 || dropped.length > 0) this.log.info({ made, dropped }, `${this.name}: partitions`);
  }
}
