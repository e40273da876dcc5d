import { StoreUnavailable } from "../../domain/refusal.js";
import { Rounds } from "../../platform/rounds.js";
import type { UserCouponStore } from "../../storage/ports.js";
import type { GateKeeperLog } from "../issuance/gate-keeper.js";

/** Between two looks of one replica: an expiry is on record about this soon. What stands where does not wait for it. */
const pauseMs = 1_000;
/** User coupons counted in one transaction, and transactions in one round. */
const batchSize = 500;
const maxBatches = 20;

/** Counts what was not used up within its own validity. Every replica runs one; Postgres sees to it that each counts once. */
export class Lapser {
  private readonly rounds: Rounds;

  constructor(
    private readonly store: Pick<UserCouponStore, "lapse">,
    log: GateKeeperLog,
  ) {
    this.rounds = new Rounds(
      () => this.lapse(),
      pauseMs,
      (error) => {
        if (!(error instanceof StoreUnavailable)) log.error({ err: error }, "counting what has expired failed");
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
  async lapse(): Promise<void> {
    for (let batch = 0; batch < maxBatches; batch++) {
      if ((await this.store.lapse(batchSize)) < batchSize) return;
    }
  }
}
