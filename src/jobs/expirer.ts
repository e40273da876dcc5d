import type { UserCouponStore } from "../storage/ports/user-coupons.js";
import type { Job } from "./job-loop.js";

/** User coupons counted in one transaction, and transactions in one run. */
const batchSize = 500;
const maxBatches = 20;

/** Counts what was not used up within its own validity. Postgres sees to it that each counts once. */
export class Expirer implements Job {
  readonly name = "expire";
  /** An expiry is on record about this soon. What stands where does not wait for it. */
  readonly pauseMs = 1_000;

  constructor(private readonly store: Pick<UserCouponStore, "expire">) {}

  async run(): Promise<void> {
    for (let batch = 0; batch < maxBatches; batch++) {
      if ((await this.store.expire(batchSize)) < batchSize) return;
    }
  }
}
