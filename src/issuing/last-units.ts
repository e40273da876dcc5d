import { setTimeout as sleep } from "node:timers/promises";
import type { CallContext } from "../domain/call-context.js";
import { DeadlinePassed, Overloaded } from "../domain/refusal.js";
import { steadyMs } from "../platform/clock.js";
import type { IssueRequest, IssueResult, IssueStore, TargetStore } from "../storage/ports/issues.js";
import type { DeadlineMs } from "../storage/ports/page.js";

/** How a call waits for what is no work: see CallContext.yieldPermit. */
export type YieldPermit = NonNullable<CallContext["yieldPermit"]>;

/** Before a call asks the gate again, in ms; the last one stands for all that follow. */
const pausesMs = [15, 30, 60, 120] as const;
/** After so many pauses a call asks Postgres itself. Whether one code is free only Postgres knows: of that it is asked at once. */
const pausesBeforeAsking = pausesMs.length;
/** After so many it is told to come again. */
const maxPauses = 20;
/** Calls of this process that ask Postgres themselves at once. */
const maxAsking = 64;

/** Only the gate gives tickets: Postgres is asked again where it has asked for one. */
type Decided = Exclude<IssueResult, { outcome: "TICKET_NEEDED" }>;

export interface UndecidedCall {
  /** How often it has paused before. */
  readonly pauses: number;
  readonly deadlineMs: DeadlineMs;
  readonly yieldPermit: YieldPermit;
}

/** The stock of a code book is its codes: where nothing is left, the one that is wanted is taken, too. */
export function outOfStock({ codeId }: IssueRequest): "SOLD_OUT" | "CODE_TAKEN" {
  return codeId === undefined ? "SOLD_OUT" : "CODE_TAKEN";
}

/**
 * The end of a sale. The gate has nothing left, but the last units are only reserved: each comes back when Postgres refuses
 * the request that it is reserved for. So a call waits for what becomes of them, for a bounded time, and in the order in
 * which the gate let them in. All who wait for a coupon share reads of what Postgres has left, which end their waiting as
 * soon as that is nothing: so however many they are, they cost Postgres a read every few milliseconds.
 */
export class LastUnits {
  private askingCount = 0;

  constructor(
    private readonly store: Pick<IssueStore, "readStock">,
    private readonly targets: Pick<TargetStore, "findEarlierIssue">,
  ) {}

  /**
   * What becomes of a request that the gate has told UNDECIDED. PAUSED: it has waited; the gate is to be asked again. `ask`
   * asks Postgres for this request. Throws Overloaded when it has waited long enough, and nothing is known.
   */
  async decide(
    request: IssueRequest,
    ask: () => Promise<IssueResult>,
    call: UndecidedCall,
  ): Promise<Decided | "PAUSED"> {
    // After a pause it has just been looked.
    const gone = call.pauses === 0 ? await this.goneOf(request, ask, call) : null;
    if (gone) return gone;
    if (call.pauses >= maxPauses) throw new Overloaded();
    const mayAsk = request.codeId !== undefined || call.pauses >= pausesBeforeAsking;
    if (mayAsk && this.askingCount < maxAsking) {
      const result = await this.asking(ask);
      if (result.outcome !== "TICKET_NEEDED") return result;
    }
    await pause(call);
    return (await this.goneOf(request, ask, call)) ?? "PAUSED";
  }

  /** The answer when Postgres has nothing left; null: it has. */
  private async goneOf(
    request: IssueRequest,
    ask: () => Promise<IssueResult>,
    { deadlineMs }: UndecidedCall,
  ): Promise<Decided | null> {
    const { couponId, requestId } = request;
    const stock = await this.store.readStock(couponId, deadlineMs);
    if (stock === null || stock > 0) return null;
    // The same request may have got one past the gate, which has not heard of it yet.
    if (requestId !== "" && (await this.targets.findEarlierIssue(requestId, deadlineMs))) {
      const result = await ask();
      if (result.outcome !== "TICKET_NEEDED") return result;
    }
    return { outcome: "REFUSED", reason: outOfStock(request) };
  }

  private async asking(ask: () => Promise<IssueResult>): Promise<IssueResult> {
    this.askingCount += 1;
    try {
      return await ask();
    } finally {
      this.askingCount -= 1;
    }
  }
}

async function pause({ pauses, deadlineMs, yieldPermit }: UndecidedCall): Promise<void> {
  const pauseMs = pausesMs[Math.min(pauses, pausesMs.length - 1)] as number;
  if (steadyMs() + pauseMs >= deadlineMs) throw new DeadlinePassed();
  await yieldPermit(() => sleep(pauseMs));
}
