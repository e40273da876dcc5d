import { StoreUnavailable } from "../../domain/refusal.js";
import { Rounds } from "../../platform/rounds.js";
import type { CodeStore } from "../../storage/code-ports.js";
import type { GateKeeper, GateKeeperLog } from "../issuance/gate-keeper.js";

/** Between two looks of one replica: what has expired is out of stock about this soon. */
const pauseMs = 1_000;
/** Codes retired in one transaction, and transactions in one round. */
const batchSize = 1_000;
const maxBatches = 20;

/** Takes codes that have expired out of stock. Every replica runs one; Postgres sees to it that each is retired once. */
export class CodeRetirer {
  private readonly rounds: Rounds;

  constructor(
    private readonly store: Pick<CodeStore, "retire">,
    private readonly keeper: Pick<GateKeeper, "forget">,
    log: GateKeeperLog,
  ) {
    this.rounds = new Rounds(
      () => this.retire(),
      pauseMs,
      (error) => {
        if (!(error instanceof StoreUnavailable)) log.error({ err: error }, "retiring codes failed");
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
  async retire(): Promise<void> {
    for (let batch = 0; batch < maxBatches; batch++) {
      const retired = await this.store.retire(batchSize);
      if (!retired) return;
      for (const couponId of retired.couponIds) await this.keeper.forget(couponId);
    }
  }
}
