import { type FieldViolation, type Reason, Refusal, StoreUnavailable } from "../../domain/refusal.js";
import { expiryOf, type UserCoupon, type UserCouponStatus, userCouponStatus } from "../../domain/user-coupon.js";
import type { Admission, Ask, Reservations, Settlement } from "../../reservation/port.js";
import type { DeadlineMs, IssueOutcome, UserCouponStore } from "../../storage/ports.js";
import type { GateKeeper } from "./gate-keeper.js";

/** How many calls may be on their way to Postgres without the reservation layer having let them through. */
const maxDirect = 2_000;

/** A queue that commits what it is given, in batches. */
export interface IssueQueue {
  submit(item: QueuedAsk, deadlineMs: DeadlineMs): Promise<IssueOutcome>;
}

export interface QueuedAsk extends Ask {
  /** Whether a reservation is held for it. */
  readonly reserved: boolean;
}

export interface Issued {
  readonly userCoupon: UserCoupon;
  readonly expiresAt: Date;
  readonly status: UserCouponStatus;
  /** Whether an earlier call with the same request id had issued it. */
  readonly replayed: boolean;
}

/** One issue, from the gate to the committed row: Redis admits, Postgres decides. */
export class Issuer {
  private directCount = 0;

  constructor(
    private readonly reservations: Reservations,
    private readonly keeper: GateKeeper,
    private readonly queue: IssueQueue,
    private readonly userCoupons: UserCouponStore,
  ) {}

  async issue(ask: Ask, deadlineMs: DeadlineMs): Promise<Issued | Refusal> {
    const admission = await this.admit(ask);
    switch (admission.word) {
      case "RESERVED":
        return await this.conclude(ask, await this.decideReserved(ask, deadlineMs), deadlineMs);
      case "REPLAY": {
        const replayed = await this.replay(ask, admission.userCouponId ?? "", deadlineMs);
        if (replayed) return replayed;
        break;
      }
      case "NOT_LOADED":
        this.keeper.load(ask.couponId);
        break;
      case "IN_FLIGHT":
        break;
      default:
        return new Refusal(admission.word);
    }
    if (this.directCount >= maxDirect) return new Refusal("OVERLOADED");
    return await this.conclude(ask, await this.decideDirect(ask, deadlineMs), deadlineMs);
  }

  private async admit(ask: Ask): Promise<Admission> {
    try {
      return await this.reservations.admit(ask);
    } catch (error) {
      // The answers do not change without the reservation layer; Postgres gives them all.
      if (error instanceof StoreUnavailable) return { word: "IN_FLIGHT" };
      throw error;
    }
  }

  private async decideReserved(ask: Ask, deadlineMs: DeadlineMs): Promise<IssueOutcome> {
    try {
      return await this.queue.submit({ ...ask, reserved: true }, deadlineMs);
    } catch (error) {
      // Not known whether the row is there: the reservation stays until a sweep has asked Postgres.
      if (!(error instanceof StoreUnavailable))
        await settleQuietly(this.reservations, [{ ...ask, verdict: "RELEASE" }]);
      throw error;
    }
  }

  /** The path past the reservation layer; its bound is checked by the caller. */
  private async decideDirect(ask: Ask, deadlineMs: DeadlineMs): Promise<IssueOutcome> {
    this.directCount += 1;
    try {
      return await this.queue.submit({ ...ask, reserved: false }, deadlineMs);
    } finally {
      this.directCount -= 1;
    }
  }

  private async conclude(ask: Ask, outcome: IssueOutcome, deadlineMs: DeadlineMs): Promise<Issued | Refusal> {
    if (outcome.kind === "REFUSED") return new Refusal(outcome.reason, violationsOf(outcome.reason));
    if (outcome.kind === "ISSUED") return { ...outcome, status: "READY", replayed: false };
    const replayed = await this.replay(ask, outcome.userCouponId, deadlineMs);
    // The user coupon of the repeated request has been deleted.
    return replayed ?? new Refusal("USER_COUPON_NOT_FOUND");
  }

  private async replay(ask: Ask, userCouponId: string, deadlineMs: DeadlineMs): Promise<Issued | null> {
    const found = await this.userCoupons.get(ask.userId, userCouponId, deadlineMs);
    if (!found) return null;
    const { userCoupon, coupon } = found.value;
    return {
      userCoupon,
      expiresAt: expiryOf(userCoupon, coupon),
      status: userCouponStatus(userCoupon, coupon, found.now),
      replayed: true,
    };
  }
}

function violationsOf(reason: Reason): FieldViolation[] {
  return reason === "REQUEST_ID_REUSED"
    ? [{ field: "request_id", description: "was used before with other input" }]
    : [];
}

/** Tells the reservation layer what became of a committed batch. */
export async function settleBatch(
  reservations: Reservations,
  keeper: GateKeeper,
  asks: readonly QueuedAsk[],
  outcomes: readonly IssueOutcome[],
): Promise<void> {
  const settlements: Settlement[] = [];
  const differing = new Set<string>();
  asks.forEach((ask, index) => {
    const outcome = outcomes[index] as IssueOutcome;
    if (outcome.kind === "ISSUED") {
      settlements.push({ ...ask, verdict: "CONFIRM", validUntil: outcome.userCoupon.validUntil });
    } else if (ask.reserved) {
      settlements.push({ ...ask, verdict: "RELEASE" });
      // Let through here and refused there: the copy is out of date.
      if (outcome.kind === "REFUSED" && outcome.reason !== "REQUEST_ID_REUSED") differing.add(ask.couponId);
    }
  });
  await settleQuietly(reservations, settlements);
  for (const couponId of differing) void keeper.reload(couponId);
}

/** What cannot be settled now is settled by a sweep, or was forgotten together with the reservation. */
async function settleQuietly(reservations: Reservations, settlements: readonly Settlement[]): Promise<void> {
  try {
    if (settlements.length > 0) await reservations.settle(settlements);
  } catch (error) {
    if (!(error instanceof StoreUnavailable)) throw error;
  }
}
