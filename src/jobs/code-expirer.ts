import type { GateKeeper } from "../issuing/gate-keeper.js";
import type { CodeStore } from "../storage/ports/codes.js";
import type { Job } from "./job-loop.js";

/** Codes expired in one transaction, and transactions in one run. */
const batchSize = 1_000;
const maxBatches = 20;

/** Takes codes that have expired out of stock. Postgres sees to it that each expires once. */
export class CodeExpirer implements Job {
  readonly name = "retire codes";
  /** What has expired is out of stock about this soon. */
  readonly pauseMs = 1_000;

  constructor(
    private readonly store: Pick<CodeStore, "expire">,
    private readonly keeper: Pick<GateKeeper, "invalidate">,
  ) {}

  async run(): Promise<void> {
    for (let batch = 0; batch < maxBatches; batch++) {
      const expired = await this.store.expire(batchSize);
      if (!expired) return;
      for (const couponId of expired.couponIds) await this.keeper.invalidate(couponId);
    }
  }
}
