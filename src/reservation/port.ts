import type { Quota, Throttle } from "../domain/coupon.js";
import type { HoldingPage } from "./packed-holdings.js";

/**
 * The gate: it stands in front of Postgres, and is fast. It only ever turns requests away or lets them through;
 * nothing is issued here. Losing all of its state at any moment is allowed to cost speed, never correctness.
 *
 * What it counts, for a coupon that is loaded:
 *
 *     stock = quantity - issued in Postgres - reservations that are pending here
 *
 * Presence decides: a release counts only while its reservation is pending, and a confirmation of a user coupon that is
 * not known here is adopted, unless that was given back before it came. So both may be repeated, come late, or come after a reload, and
 * the sum stays right.
 *
 * For a coupon with a usage cap it also counts places, more simply: it never knows of fewer than are left.
 *
 *     places remaining >= usage cap - places taken in Postgres - places that are pending here
 */

/** One request to be let through. */
export interface GateRequest {
  readonly couponId: string;
  readonly userId: string;
  /** "" when the caller gave none. */
  readonly requestId: string;
  /** The id that the user coupon will have. It also names the reservation. A UUIDv7, whose time says of which day it is. */
  readonly userCouponId: string;
}

/** A request on its way through the gate. */
export interface AdmissionRequest extends GateRequest {
  /** Where the coupon is throttled: its ticket, as WAIT has told it. Absent: it has none yet. */
  readonly ticket?: number;
  /** How long the caller can wait at most, in ms; the coupon's own limit holds as well. Absent: only that. */
  readonly patienceMs?: number;
}

/**
 * - RESERVED: one unit of stock is reserved for this request until the reservation's deadline.
 * - REPLAY: the same request was issued before, as `userCouponId`, unless another request of the user has the same hash.
 * - IN_FLIGHT: the answer hangs on a reservation of the same user that is not decided yet. Ask Postgres.
 * - GIVEN_BACK: it would be refused, but the same request may have issued what its user holds no more. Ask Postgres.
 * - UNDECIDED: the last units are reserved for requests that are not decided yet, and may come back. Ask again, or Postgres.
 * - NOT_LOADED: nothing is known of the coupon here, but that it exists. Ask Postgres, and load it.
 * - WAIT: the coupon is throttled. Nothing is reserved, but the request is in its queue: ask again in `waitMs`, with `ticket`.
 * - THROTTLED: for another `waitMs` its ticket would be due too late, after `queueMs`.
 * - the others: refusals, see `domain/issue.ts`. SOLD_OUT is said only while nothing is pending: Postgres has nothing left, either.
 */
export const admissionOutcomes = [
  "RESERVED",
  "REPLAY",
  "IN_FLIGHT",
  "GIVEN_BACK",
  "UNDECIDED",
  "NOT_LOADED",
  "WAIT",
  "THROTTLED",
  "COUPON_NOT_FOUND",
  "COUPON_PAUSED",
  "COUPON_NOT_STARTED",
  "COUPON_ENDED",
  "USAGE_CAP_REACHED",
  "ALREADY_ISSUED",
  "QUOTA_REACHED",
  "SOLD_OUT",
] as const;
export type AdmissionOutcome = (typeof admissionOutcomes)[number];

export interface Admission {
  readonly outcome: AdmissionOutcome;
  /** Set for REPLAY. */
  readonly userCouponId?: string;
  /** Set for WAIT and THROTTLED, at least 1. */
  readonly waitMs?: number;
  /** Set for THROTTLED: how long the request may be in the queue. */
  readonly queueMs?: number;
  /** Set for WAIT, and for RESERVED of a throttled coupon. In ms since 1970, by the clock of its queue. */
  readonly ticket?: number;
}

/** What Postgres said of a request. */
export type Settlement = GateRequest &
  (
    | { /** The row is committed. */ readonly outcome: "CONFIRM"; readonly validUntil: Date | null }
    | { /** The row is not there and will not come. */ readonly outcome: "RELEASE" }
    | ({ /** The user does not hold it any more. */ readonly outcome: "FREE" } & GiveBack)
    | ({ /** The same, and it is back in stock. */ readonly outcome: "RETURN" } & GiveBack)
  );

export interface GiveBack {
  /**
   * Postgres numbers what is given back of a coupon, from 1 and without a gap. A copy knows up to which number it has heard of all,
   * so one that was never told of is missed, however often and in whichever order the others come. Absent: it has another word
   * that counts, or none.
   */
  readonly givenBackNo?: number;
}

/** One use that needs a place under its coupon's usage cap. */
export interface PlaceRequest {
  readonly couponId: string;
  /** The id that the usage will have. It also names the reservation. */
  readonly usageId: string;
  /** The coupon's revision, as the caller knows it from Postgres. */
  readonly revision: number;
}

/**
 * - TAKEN: one place is reserved for this use until the reservation's deadline.
 * - NOT_LOADED: the coupon's places are not known here, or are those of another revision. Ask Postgres, and load them.
 * - UNDECIDED: the last places are taken by uses that are not decided yet, of which this one may be a retry. Ask Postgres.
 */
export const placeOutcomes = ["TAKEN", "NOT_LOADED", "UNDECIDED", "USAGE_CAP_REACHED"] as const;
export type PlaceOutcome = (typeof placeOutcomes)[number];

/** What Postgres said of a use that had taken a place. */
export interface PlaceSettlement {
  readonly couponId: string;
  readonly usageId: string;
  readonly outcome: "CONFIRM" | "RELEASE";
}

/** The places of a coupon as Postgres has them. */
export interface PlaceFacts {
  readonly revision: number;
  /** `usage_cap - place_count`. */
  readonly remaining: number;
}

export interface Holding {
  readonly userId: string;
  readonly userCouponId: string;
  readonly requestId: string;
  readonly validUntil: Date | null;
}

/** What the gate needs to know of a coupon, as Postgres has it. */
export interface GateFacts {
  readonly revision: number;
  /** When the coupon got its revision, which another edit gets after a failover that lost one. */
  readonly updatedAt: Date;
  readonly startsAt: Date;
  readonly expiresAt: Date;
  readonly paused: boolean;
  readonly deleted: boolean;
  /** Whether its usage cap has been reached. */
  readonly exhausted: boolean;
  readonly maxPerUser: number;
  /** `quantity - issued_count` at the same moment as the holdings; null: unlimited. */
  readonly stock: number | null;
  /** How many were given back up to the same moment. */
  readonly givenBackTotal: number;
  readonly throttle: Throttle | null;
  readonly quota: Quota | null;
  /** How many buckets its holdings are spread over: a power of two, see packed-holdings.ts. */
  readonly bucketCount: number;
}

/** A load under way. Every step answers false when the load was cancelled by `invalidate` or taken over. */
export interface Loading {
  /** None: only says that the load goes on. */
  addHoldings(pages: readonly HoldingPage[]): Promise<boolean>;
  /** Makes the coupon known. Reservations that are still pending and not among the holdings are carried over. */
  install(facts: GateFacts): Promise<boolean>;
}

/** What is loaded of a coupon. */
export interface LoadedSurvey {
  readonly revision: number;
  /** null: not known, for a replica of version 0.2 has loaded it. */
  readonly updatedAt: Date | null;
  /** null: unlimited. */
  readonly stock: number | null;
  /** Up to which number it has heard of all that was given back; null: not known, for the same reason. */
  readonly givenBackTo: number | null;
}

/** A coupon as the gate sees it, for the sweep. */
export interface Survey {
  readonly couponId: string;
  /** null: not loaded. */
  readonly loaded: LoadedSurvey | null;
  readonly pendingCount: number;
  /** Reservations past their deadline. They stay until they are settled. */
  readonly overdue: readonly GateRequest[];
  /** null: not loaded. */
  readonly places: PlaceFacts | null;
  readonly takenCount: number;
  /** Usages whose places are past their deadline. They stay until they are settled. */
  readonly overdueUsageIds: readonly string[];
}

/** A look at a coupon whose time has come. */
export interface Look {
  readonly survey: Survey;
  /** Names this look: it changes as soon as somebody asks for the coupon. */
  readonly claim: string;
  /** How many looks before this one found it calm, without anybody asking for it since. */
  readonly calmLooks: number;
  /** Until the earliest deadline of what is pending; null: nothing is. */
  readonly deadlineInMs: number | null;
}

export interface LookEnd {
  readonly look: Look;
  /** Whether the next look should come at once. */
  readonly again: boolean;
}

export interface Gate {
  /** Throws StoreUnavailable; a reservation may then have been taken all the same, and is swept later. */
  admit(request: AdmissionRequest): Promise<Admission>;
  /** All of one coupon or of many. Void for reservations and coupons that are not known. Throws StoreUnavailable. */
  settle(settlements: readonly Settlement[]): Promise<void>;
  /**
   * Starts to load a coupon. Settlements that arrive from now on are part of what is installed, so the holdings must be
   * read from Postgres after this call. null: another load of it is under way. Throws StoreUnavailable.
   */
  beginLoad(couponId: string): Promise<Loading | null>;
  /** Throws StoreUnavailable; a place may then have been taken all the same, and is swept later. */
  takePlace(request: PlaceRequest): Promise<PlaceOutcome>;
  /** Void for places that are not pending here. Throws StoreUnavailable. */
  settlePlaces(settlements: readonly PlaceSettlement[]): Promise<void>;
  /** Makes the places of a coupon known, unless they are. Throws StoreUnavailable. */
  loadPlaces(couponId: string, facts: PlaceFacts): Promise<void>;
  /**
   * Forgets the coupon and its places (not what is pending) and cancels a load under way. Throws StoreUnavailable.
   */
  invalidate(couponId: string): Promise<void>;
  /**
   * Looks at coupons that are loaded or have pending reservations, at most `couponLimit` of them, going round through
   * all from call to call, and at most `overdueLimit` reservations of each. Throws StoreUnavailable.
   */
  survey(couponLimit: number, overdueLimit: number): Promise<Survey[]>;
  /**
   * Looks at coupons whose time has come, the longest due first, within the same limits. A coupon is due when it was
   * asked for, loaded or settled, at the earliest deadline of what is pending, and after pauses while it is calm. No other
   * process looks at them before `endLooks`, or until the lease of the look is over. Throws StoreUnavailable.
   */
  lookAtDue(couponLimit: number, overdueLimit: number): Promise<Look[]>;
  /**
   * Says when the next look comes, unless somebody asked for the coupon meanwhile: then it is due at once. A coupon for
   * which nobody has asked for long leaves the gate, unless something is pending or it is being loaded. Throws
   * StoreUnavailable; the coupons are then due again when their leases are over.
   */
  endLooks(ends: readonly LookEnd[]): Promise<void>;
  close(): Promise<void>;
}

/** How long a reservation may stay undecided before any replica asks Postgres about it. */
export const defaultReservationMs = 5_000;
/** How long one step of a load may take before another replica may start over. */
export const loadStepTimeoutMs = 5_000;
/** How long a coupon's places stay loaded after the last one was taken. */
export const keepPlacesMs = 3_600_000;
/** What the queue of a throttled coupon spaces its tickets by, beyond the even share of a second. */
export const ticketSlack = 0.05;
/** A second in which a throttle counts. Times are cut to whole milliseconds, so two that are 1,000 apart may be less. */
export const throttleSecondMs = 1_001;
/** How long the use of a quota's day stays known after the last change to it: longer than the day. */
export const keepQuotaDayMs = 30 * 3_600_000;
/** How long a coupon stays loaded after its expire time. */
export const keepEndedMs = 600_000;
