import type { GateKeeper } from "../issuing/gate-keeper.js";
import type { CodeStore } from "../storage/ports/codes.js";
import type { Job } from "./job-loop.js";

/** Codes retired in one transaction, and transactions in one run. */
const batchSize = 1_000;
const maxBatches = 20;

/** Takes codes that have expired out of stock. Postgres sees to it that each is retired once. */
export class CodeRetirer implements Job {
  readonly name = "retire codes";
  /** What has expired is out of stock about this soon. */
  readonly pauseMs = 1_000;

  constructor(
    private readonly store: Pick<CodeStore, "retire">,
    private readonly keeper: Pick<GateKeeper, "invalidate">,
  ) {}

  async run(): Promise<void> {
    for (let batch = 0; batch < maxBatches; batch++) {
      const retired = await this.store.retire(batchSize);
      if (!retired) return;
      for (const couponId of retired.couponIds) await this.keeper.invalidate(couponId);
    }
  }
}
