import type { Money } from "../../domain/coupon.js";
import type { Labels } from "../../domain/labels.js";
import type { Choice, ChosenCoupon, StandingUses, Usage, UseRefusal } from "../../domain/usage.js";
import type { PlaceRequest } from "../../reservation/port.js";
import type { Dated, DeadlineMs, Page, RequestKey, Rows } from "./page.js";

/** One use on its way into Postgres. */
export interface UseRequest extends PlaceRequest {
  readonly userCouponId: string;
  readonly userId: string;
  /** 0: none. */
  readonly lockVersion: number;
  readonly productId: string;
  readonly orderId: string;
  readonly orderAmount: Money;
  /** When the coupon got its revision, which another edit may have got since: see DefinitionName. Absent: it is not compared. */
  readonly updatedAt?: Date;
  /** Minor units, computed from the coupon of this revision. */
  readonly discountAmount: number;
  /** As they were judged, of the same revision. Postgres reads them for itself. */
  readonly facts: Pick<Usage, "code" | "couponType" | "couponName">;
  /** What is to be kept with the usage. Absent or null: nothing. */
  readonly labels?: Labels | null;
  /** What stood of its order when it was judged, and what that had taken off; minor units. */
  readonly orderMark: string;
  readonly discountedBefore: number;
  /** "" when the caller gave none. */
  readonly requestId: string;
  /** Its position in the request, from 0. */
  readonly item: number;
  /** Whether a place is reserved for it in the gate. */
  readonly placeTaken: boolean;
  /** As in IssueRequest. */
  readonly untilMs?: number;
}

export type UseResult =
  | {
      /** The usage is committed. */ readonly outcome: "USED";
      readonly usage: Usage;
      /** Whether this very commit took a place for it. A cancelled use may have left one since the order was judged. */
      readonly placed: boolean;
      /** Whether this commit has reached the coupon's usage cap. */
      readonly exhausted: boolean;
    }
  | { /** An earlier call with the same request id had used it. */ readonly outcome: "REPLAYED" }
  | { /** Past `untilMs`; nothing was done. */ readonly outcome: "TOO_LATE" }
  | {
      /** Since it was judged the coupon was edited, or another call used or cancelled of its order: judge it anew. */
      readonly outcome: "STALE";
    }
  | {
      /** Nothing against this one, but against another one of the order; nothing was done. */ readonly outcome: "CONSENT";
    }
  | { readonly outcome: "REFUSED"; readonly reason: UseRefusal };

export interface LockRequest {
  readonly userCouponId: string;
  readonly couponId: string;
  readonly userId: string;
  /** Renews the lock of this version; 0: a new one is wanted. */
  readonly lockVersion: number;
  /** What it is locked for. "": the call names no order. */
  readonly orderId: string;
  /** Absent or null: it was not told. */
  readonly orderAmount?: Money | null;
  /** Names the call: a repeated one gets the lock that stands. */
  readonly token: string;
}

export interface Lock {
  readonly userCouponId: string;
  readonly version: number;
  readonly until: Date;
}

export type LockResult =
  | { readonly outcome: "GRANTED"; readonly lock: Lock }
  | { /** As for UseResult. */ readonly outcome: "CONSENT" }
  | { readonly outcome: "REFUSED"; readonly reason: UseRefusal };

/** Which usage of a user: by its id, or as the only one that stands of a user coupon. */
export interface UsageName {
  readonly userId: string;
  readonly usageId?: string;
  readonly userCouponId?: string;
}

export interface CancelRequest extends UsageName {
  /** Of that usage, if there is one. */
  readonly couponId?: string | undefined;
  /** Of a call without a request id, one that the call was given on its way. */
  readonly request: Pick<RequestKey, "requestId" | "inputHash">;
}

export type CancelRefusal = "USAGE_NOT_FOUND" | "USAGE_ALREADY_CANCELLED" | "SEVERAL_USAGES" | "REQUEST_ID_REUSED";

export type CancelResult =
  | {
      /** By this call, or by an earlier one with the same request id. */ readonly outcome: "CANCELLED";
      readonly usage: Usage;
      /** A place under the usage cap went back to all. */
      readonly freed: boolean;
    }
  | { readonly outcome: "REFUSED"; readonly reason: CancelRefusal };

export interface UserChoice {
  readonly userId: string;
  readonly userCouponId: string;
}

export interface OrderChoice extends UserChoice {
  /** "": none is named. */
  readonly orderId: string;
}

export interface ReadChoice extends Dated<ChosenCoupon | null> {
  /** What stands of the order that is named. */
  readonly standing: StandingUses;
}

export interface UsageFilter {
  readonly userId?: string;
  readonly couponId?: string;
  readonly productId?: string;
  readonly orderId?: string;
  readonly showCancelled: boolean;
}

export interface UsageStore {
  /** What users chose, in order; null where the user holds no such user coupon. `now` is the same for all of one call. */
  readChosen(choices: readonly OrderChoice[]): Promise<ReadChoice[]>;

  /**
   * Uses a batch in one round trip, with one result for each request in order. Within a batch no two may carry the same
   * request id or be of the same order. `again` as in `IssueStore.issueBatch`. With `together` they are one call with one
   * order: all or none.
   */
  useBatch(requests: readonly UseRequest[], options: { again: boolean; together: boolean }): Promise<UseResult[]>;

  /**
   * Locks a batch in one round trip, with one result for each request in order; `together` as in `useBatch`. Without it no two
   * may be of the same order.
   */
  lockBatch(requests: readonly LockRequest[], options: { together: boolean }): Promise<LockResult[]>;

  /**
   * For each choice that names a code, the ids of the user's user coupons with it, best first: what this very request has
   * used before, in the order of its items and whatever has become of the code since, or locked, then the one whose lock the
   * choice names, then what can be used, the earliest expiry first.
   */
  findByCodes(
    userId: string,
    choices: readonly (Choice & { readonly code: string })[],
    requestId: string,
    deadlineMs: DeadlineMs,
  ): Promise<readonly (readonly string[])[]>;

  /** The ids of those whose locks were given up; null, and nothing done, when the user does not hold all of them. */
  unlock(userId: string, choices: readonly Choice[], deadlineMs: DeadlineMs): Promise<string[] | null>;

  /** Whose coupon it is; undefined: there is no such usage. Calls of one moment share a query. */
  couponOf(named: UsageName, deadlineMs: DeadlineMs): Promise<string | undefined>;

  /**
   * Cancels a batch in one round trip, with one result for each request in order. Within a batch no two may carry the same
   * request id. `again` as in `IssueStore.issueBatch`.
   */
  cancelBatch(requests: readonly CancelRequest[], again: boolean): Promise<CancelResult[]>;

  /** null when it is unknown or somebody else's. */
  get(userId: string, usageId: string, deadlineMs: DeadlineMs): Promise<Usage | null>;
  list(filter: UsageFilter, page: Page, deadlineMs: DeadlineMs): Promise<Rows<Usage>>;
  /** The usages of one request, in its order. */
  ofRequest(requestId: string, deadlineMs: DeadlineMs): Promise<Usage[]>;
  /** The newest usages of each of a user's user coupons, at most `limit` of all together. */
  ofUserCoupons(
    userId: string,
    userCouponIds: readonly string[],
    limit: number,
    deadlineMs: DeadlineMs,
  ): Promise<Usage[]>;
  /** Of the given ids, those that are stored. */
  findUsed(usageIds: readonly string[]): Promise<Set<string>>;
}
