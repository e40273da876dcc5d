import type { StatsStore } from "../storage/ports/stats.js";
import type { Job } from "./job-loop.js";

/** Counts for GetStats what is too much to count while somebody waits. The store sees to it that one replica at a time does. */
export class Counter implements Job {
  readonly name = "count";
  /** Between two runs: each asks whether it is time to count. */
  readonly pauseMs = 1_000;

  constructor(private readonly store: Pick<StatsStore, "keep">) {}

  async run(): Promise<void> {
    await this.store.keep();
  }
}
