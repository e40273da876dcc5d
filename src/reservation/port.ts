/**
 * The reservation port: the fast gate in front of Postgres. It only ever turns requests away or lets them through;
 * nothing is issued here. Losing all of its state at any moment is allowed to cost speed, never correctness.
 *
 * What it counts, for a coupon that is loaded:
 *
 *     stock = quantity - issued in Postgres - reservations that are pending here
 *
 * Presence decides: a release counts only while its reservation is pending, and a confirmation of a user coupon that is
 * not known here is adopted. So both may be repeated, come late, or come after a reload, and the sum stays right.
 */

/** One request to be let through. */
export interface Ask {
  readonly couponId: string;
  readonly userId: string;
  /** "" when the caller gave none. */
  readonly requestId: string;
  /** The id that the user coupon will have. It also names the reservation. */
  readonly userCouponId: string;
}

/**
 * - RESERVED: one unit of stock is held for this ask until the reservation's deadline.
 * - REPLAY: the same request was issued before, as `userCouponId`.
 * - IN_FLIGHT: the answer hangs on a reservation of the same user that is not decided yet. Ask Postgres.
 * - NOT_LOADED: nothing is known of the coupon here. Ask Postgres, and load it.
 * - the others: refusals, see `domain/issue.ts`.
 */
export const admissionWords = [
  "RESERVED",
  "REPLAY",
  "IN_FLIGHT",
  "NOT_LOADED",
  "COUPON_NOT_FOUND",
  "COUPON_PAUSED",
  "COUPON_NOT_STARTED",
  "COUPON_ENDED",
  "ALREADY_ISSUED",
  "SOLD_OUT",
] as const;
export type AdmissionWord = (typeof admissionWords)[number];

export interface Admission {
  readonly word: AdmissionWord;
  /** Set for REPLAY. */
  readonly userCouponId?: string;
}

/** What Postgres said of an ask. */
export type Settlement = Ask &
  (
    | { /** The row is committed. */ readonly verdict: "CONFIRM"; readonly validUntil: Date | null }
    | { /** The row is not there and will not come. */ readonly verdict: "RELEASE" }
  );

export interface Holder {
  readonly userId: string;
  readonly userCouponId: string;
  readonly requestId: string;
  readonly validUntil: Date | null;
}

/** What the gate needs to know of a coupon, as Postgres has it. */
export interface GateFacts {
  readonly revision: number;
  readonly startsAt: Date;
  readonly expiresAt: Date;
  readonly paused: boolean;
  readonly deleted: boolean;
  readonly maxPerUser: number;
  /** `quantity - issued_count` at the same moment as the holders; null: unlimited. */
  readonly remaining: number | null;
}

/** A load under way. Every step answers false when the load was cancelled by `invalidate` or taken over. */
export interface Loading {
  addHolders(holders: readonly Holder[]): Promise<boolean>;
  /** Makes the coupon known. Reservations that are still pending and not among the holders are carried over. */
  install(facts: GateFacts): Promise<boolean>;
}

/** A coupon as the gate sees it, for the sweep. */
export interface Survey {
  readonly couponId: string;
  /** null: not loaded. `stock` is null for unlimited. */
  readonly loaded: { readonly revision: number; readonly stock: number | null } | null;
  readonly pendingCount: number;
  /** Reservations past their deadline. They stay until they are settled. */
  readonly overdue: readonly Ask[];
}

export interface Reservations {
  /** Throws StoreUnavailable; a reservation may then have been taken all the same, and is swept later. */
  admit(ask: Ask): Promise<Admission>;
  /** All of one coupon or of many. Void for reservations and coupons that are not known. Throws StoreUnavailable. */
  settle(settlements: readonly Settlement[]): Promise<void>;
  /**
   * Starts to load a coupon. Settlements that arrive from now on are part of what is installed, so the holders must be
   * read from Postgres after this call. null: another load of it is under way. Throws StoreUnavailable.
   */
  beginLoad(couponId: string): Promise<Loading | null>;
  /** Forgets the coupon (not its pending reservations) and cancels a load under way. Throws StoreUnavailable. */
  invalidate(couponId: string): Promise<void>;
  /**
   * Looks at coupons that are loaded or have pending reservations, at most `couponLimit` of them, going round through
   * all from call to call, and at most `overdueLimit` reservations of each. Throws StoreUnavailable.
   */
  survey(couponLimit: number, overdueLimit: number): Promise<Survey[]>;
  close(): Promise<void>;
}

/** How long a reservation may stay undecided before any replica asks Postgres about it. */
export const defaultReservationMs = 5_000;
/** How long one step of a load may take before another replica may start over. */
export const loadStepTimeoutMs = 5_000;
/** How long a coupon stays loaded after its expire time. */
export const keepEndedMs = 600_000;
