import type { Plan } from "./plan.js";

/** What one request got in the end. */
export type Ending = { readonly userCouponId: string; readonly userId: string } | { readonly refusal: string };

/** A repeated request of a holder gets yes again, a new one ALREADY_ISSUED, sold out or not. */
export type Owed = "YES" | "ALREADY_ISSUED" | "ANYTHING";

/** Each completed request counts in exactly one of these. */
export interface Counts {
  /** The answer that made a user coupon known for the first time. */
  issued: number;
  /** A yes that named a user coupon which an earlier answer had named. */
  replayed: number;
  soldOut: number;
  alreadyIssued: number;
  /** Anything else, after all attempts. */
  errors: number;
}

/** A user coupon that the service said yes to; `user` as in the plan. */
export interface Acknowledgement {
  readonly user: number;
  readonly userCouponId: string;
}

/** Notes down every answer, and whether it fits the answers before it. */
export class Ledger {
  readonly counts: Counts = { issued: 0, replayed: 0, soldOut: 0, alreadyIssued: 0, errors: 0 };
  readonly errorsByReason: Record<string, number> = {};
  /** Answers that cannot all be true: a second coupon, somebody else's, a retry whose coupon is gone. */
  contradictions = 0;
  /** When the first SOLD_OUT was heard, in ms since 1970; null: nobody was told so. */
  firstSoldOutAtMs: number | null = null;
  readonly #plan: Plan;
  readonly #userIdOf: (user: number) => string;
  /** By user: the user coupon, and the request id that got it. */
  readonly #held = new Map<number, { readonly userCouponId: string; readonly intent: number }>();
  readonly #toldAlreadyIssued = new Set<number>();
  /** Users of whose requests one ended without a clear answer: it may have taken effect. */
  readonly #unclear = new Set<number>();
  #fresh: Acknowledgement[] = [];
  #freshlyUnclear: number[] = [];

  constructor(plan: Plan, userIdOf: (user: number) => string) {
    this.#plan = plan;
    this.#userIdOf = userIdOf;
  }

  /** What a request that is sent now must get, because of what its user was told before. */
  owed(request: number): Owed {
    const held = this.#held.get(this.#plan.userOf[request]!);
    if (!held) return "ANYTHING";
    return held.intent === this.#plan.intentOf[request] ? "YES" : "ALREADY_ISSUED";
  }

  note(request: number, ending: Ending, owed: Owed): void {
    if ("refusal" in ending) this.#noteRefusal(request, ending.refusal, owed);
    else this.#noteYes(request, ending.userCouponId, ending.userId);
  }

  /** The acknowledgements since the last call. */
  takeAcknowledgements(): Acknowledgement[] {
    const fresh = this.#fresh;
    this.#fresh = [];
    return fresh;
  }

  /** The users since the last call who do not know what they have. */
  takeUnclear(): number[] {
    const fresh = this.#freshlyUnclear;
    this.#freshlyUnclear = [];
    return fresh;
  }

  /** To be called after the last answer: nobody may have been told that he holds one who can hold none. */
  close(): void {
    for (const user of this.#toldAlreadyIssued) {
      if (!this.#held.has(user) && !this.#unclear.has(user)) this.contradictions += 1;
    }
  }

  #noteYes(request: number, userCouponId: string, userId: string): void {
    const user = this.#plan.userOf[request]!;
    const held = this.#held.get(user);
    if (userId !== this.#userIdOf(user)) this.contradictions += 1;
    if (held?.userCouponId === userCouponId) {
      this.counts.replayed += 1;
      return;
    }
    if (held) this.contradictions += 1;
    else this.#held.set(user, { userCouponId, intent: this.#plan.intentOf[request]! });
    this.counts.issued += 1;
    this.#fresh.push({ user, userCouponId });
  }

  #noteRefusal(request: number, refusal: string, owed: Owed): void {
    if (refusal === "SOLD_OUT") {
      this.counts.soldOut += 1;
      this.firstSoldOutAtMs ??= Date.now();
    } else if (refusal === "ALREADY_ISSUED") {
      this.counts.alreadyIssued += 1;
      this.#toldAlreadyIssued.add(this.#plan.userOf[request]!);
    } else {
      this.counts.errors += 1;
      this.errorsByReason[refusal] = (this.errorsByReason[refusal] ?? 0) + 1;
      const user = this.#plan.userOf[request]!;
      if (!this.#unclear.has(user)) this.#freshlyUnclear.push(user);
      this.#unclear.add(user);
      return;
    }
    if (owed !== "ANYTHING" && owed !== refusal) this.contradictions += 1;
  }
}
