import type { GateKeeper } from "../issuing/gate-keeper.js";
import type { UserCouponStore } from "../storage/ports/user-coupons.js";
import type { Job } from "./job-loop.js";

/** User coupons released in one transaction, and transactions in one run. */
const batchSize = 500;
const maxBatches = 20;

/** Puts back into stock what users did not use within the claim window. Postgres sees to it that each is released once. */
export class Releaser implements Job {
  readonly name = "release";
  /** What is due goes back into stock about this soon. */
  readonly pauseMs = 1_000;

  constructor(
    private readonly store: Pick<UserCouponStore, "release">,
    private readonly keeper: Pick<GateKeeper, "giveBack" | "invalidate">,
    private readonly log: { info(details: object, message: string): void },
  ) {}

  async run(): Promise<void> {
    for (let batch = 0; batch < maxBatches; batch++) {
      const released = await this.store.release(batchSize);
      if (released.length > 0) {
        await this.keeper.giveBack(released);
        const uncounted = released.filter(({ freed }) => freed).map(({ couponId }) => couponId);
        for (const couponId of new Set(uncounted)) await this.keeper.invalidate(couponId);
        this.log.info({ count: released.length }, "released user coupons that were not used in time");
      }
      if (released.length < batchSize) return;
    }
  }
}
