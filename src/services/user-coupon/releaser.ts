import { StoreUnavailable } from "../../domain/refusal.js";
import { Rounds } from "../../platform/rounds.js";
import type { UserCouponStore } from "../../storage/ports.js";
import type { GateKeeper, GateKeeperLog } from "../issuance/gate-keeper.js";

/** Between two looks of one replica: what is due goes back into stock about this soon. */
const pauseMs = 1_000;
/** User coupons released in one transaction, and transactions in one round. */
const batchSize = 500;
const maxBatches = 20;

/** Puts back into stock what users did not use within the claim window. Every replica runs one; Postgres sees to it that each is released once. */
export class Releaser {
  private readonly rounds: Rounds;

  constructor(
    private readonly store: UserCouponStore,
    private readonly keeper: GateKeeper,
    private readonly log: GateKeeperLog,
  ) {
    this.rounds = new Rounds(
      () => this.release(),
      pauseMs,
      (error) => {
        if (!(error instanceof StoreUnavailable)) log.error({ err: error }, "releasing failed");
      },
    );
  }

  start(): void {
    this.rounds.start();
  }

  close(): Promise<void> {
    return this.rounds.close();
  }

  /** One round. Called by the timer, and by tests. */
  async release(): Promise<void> {
    for (let batch = 0; batch < maxBatches; batch++) {
      const released = await this.store.release(batchSize);
      if (released.length > 0) {
        await this.keeper.giveBack(released);
        const uncounted = released.filter(({ freed }) => freed).map(({ couponId }) => couponId);
        for (const couponId of new Set(uncounted)) await this.keeper.forget(couponId);
        this.log.info({ count: released.length }, "released user coupons that were not used in time");
      }
      if (released.length < batchSize) return;
    }
  }
}
