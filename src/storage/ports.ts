import type { FoundCode } from "../domain/code.js";
import type { Coupon, CouponDefinition, CouponType, Money } from "../domain/coupon.js";
import type { CodeRefusal, IssueRefusal } from "../domain/issue.js";
import type { Refusal } from "../domain/refusal.js";
import type { Choice, ChosenCoupon, Usage, UseRefusal } from "../domain/usage.js";
import type { UserCoupon } from "../domain/user-coupon.js";
import type { Ask, GateFacts, Holder, PlaceAsk } from "../reservation/port.js";

/** Until when an answer is of use, in ms since 1970 by this machine's clock. */
export type DeadlineMs = number;

/** Names a repeated call of one method. */
export interface RequestKey {
  readonly method: string;
  readonly requestId: string;
  /** SHA-256 of the input without the request id. */
  readonly inputHash: Uint8Array;
}

export interface Page {
  /** 1 to 1,000. */
  readonly size: number;
  /** The id of the last row of the page before; null for the first page. Rows come in falling order of their ids, unless a list says otherwise. */
  readonly before: string | null;
}

/** The rows of a page, and where the next one begins. */
export interface Rows<T> {
  readonly rows: readonly T[];
  /**
   * The id that the next page comes after; null: this is the last one. A page that has less than was asked for may have a
   * next one, when so many rows that are not wanted were in the way that the store stopped looking.
   */
  readonly next: string | null;
}

/** With the moment it was read at, of the database's clock: states and statuses are derived for it. */
export interface Listed<T> extends Rows<T> {
  readonly now: Date;
}

export interface Dated<T> {
  readonly value: T;
  readonly now: Date;
}

/** What an edit may change besides the definition. */
export type CouponEdit = Partial<
  CouponDefinition & Pick<Coupon, "pausedAt" | "deletedAt" | "revokedAt" | "exhaustedAt">
>;

export type CouponEventKind =
  | "COUPON_CREATED"
  | "COUPON_UPDATED"
  | "COUPON_PAUSED"
  | "COUPON_RESUMED"
  | "COUPON_DELETED";

/** Every method throws DeadlinePassed, or StoreUnavailable when Postgres is away or does not answer. */
export interface CouponStore {
  /**
   * Inserts what `build` makes of the database's present time, with its event. With a request that was made before, the
   * first answer is given again, or REQUEST_ID_REUSED.
   */
  create(
    build: (now: Date) => CouponDefinition | Refusal,
    request: RequestKey | null,
    deadlineMs: DeadlineMs,
  ): Promise<Dated<Coupon> | Refusal>;

  /**
   * The same for many, in one transaction: `build` says of each what it is to be, or why it is refused. The refused ones
   * are part of the answer.
   */
  createMany(
    build: (now: Date) => Promise<readonly (CouponDefinition | Refusal)[]>,
    request: RequestKey | null,
    deadlineMs: DeadlineMs,
  ): Promise<Dated<readonly (Coupon | Refusal)[]> | Refusal>;

  /**
   * Locks the coupon, applies `edit`, raises the revision and appends the event, unless the edit is null: then nothing
   * changes and the coupon is the answer. `beforeCommit` runs while the lock is held.
   * COUPON_NOT_FOUND for deleted coupons; STALE_REVISION unless `revision` is 0 or current; requests as in `create`.
   */
  change(
    change: {
      readonly id: string;
      readonly revision: number;
      readonly kind: CouponEventKind;
      readonly request: RequestKey | null;
    },
    edit: (current: Coupon, now: Date) => CouponEdit | Refusal | null,
    beforeCommit: () => Promise<void>,
    deadlineMs: DeadlineMs,
  ): Promise<Dated<Coupon> | Refusal>;

  /** Deleted coupons, too. */
  get(id: string, deadlineMs: DeadlineMs): Promise<Dated<Coupon> | null>;
  list(page: Page, showDeleted: boolean, deadlineMs: DeadlineMs): Promise<Listed<Coupon>>;
}

/** What is searched for. The filters that are set must all hold. */
export interface CouponQuery {
  /** As they were typed. "": all coupons that the filters leave. */
  readonly words: string;
  /** Without regard to case. "": all. */
  readonly category: string;
  readonly type: CouponType | null;
  readonly discountKind: "PERCENTAGE" | "FIXED_AMOUNT" | null;
  /** Whether coupons whose expire time has passed are found, too. */
  readonly withEnded: boolean;
}

/** Where a found coupon stands: all words in the name are tier 1, else 2; the newest id first in a tier. */
export interface CouponPlace {
  readonly tier: number;
  readonly couponId: string;
}

export interface FoundCoupons {
  readonly rows: readonly Coupon[];
  readonly now: Date;
  /** What the next page comes after; null: this is the last one. */
  readonly next: CouponPlace | null;
  /** The words that were looked for instead; "" when the query was taken as it is. */
  readonly correctedQuery: string;
}

export interface SearchStore {
  /** A page, best first, of 1 to 100 coupons. Throws as CouponStore does. */
  search(
    query: CouponQuery,
    page: { readonly size: number; readonly after: CouponPlace | null },
    deadlineMs: DeadlineMs,
  ): Promise<FoundCoupons>;
}

export interface UserCouponWithCoupon {
  readonly userCoupon: UserCoupon;
  readonly coupon: Coupon;
}

/** A user coupon that was taken from its user: what the reservation layer must be told. */
export interface GivenBack extends Ask {
  readonly restocked: boolean;
  /**
   * Whether the reservation layer cannot count what went back, and has to read anew: places under the coupon's usage cap, or
   * the stock of one that had expired, which it does not know any more.
   */
  readonly freed: boolean;
}

export interface UserCouponStore {
  /** null when it is unknown, deleted or somebody else's. */
  get(userId: string, userCouponId: string, deadlineMs: DeadlineMs): Promise<Dated<UserCouponWithCoupon> | null>;
  /** Never deleted ones; expired and released ones with `showExpired`. */
  list(userId: string, page: Page, showExpired: boolean, deadlineMs: DeadlineMs): Promise<Listed<UserCouponWithCoupon>>;

  /**
   * USER_COUPON_NOT_FOUND, ALREADY_USED, LOCKED; requests as in `CouponStore.create`. `beforeCommit` runs while the coupon
   * is locked, unless nothing was deleted; what it was told may be rolled back: then the answer is a refusal or a replay.
   */
  delete(
    deletion: {
      readonly userId: string;
      readonly userCouponId: string;
      readonly restock: boolean;
      readonly deleteUsed: boolean;
      readonly request: RequestKey | null;
    },
    beforeCommit: (given: GivenBack) => Promise<void>,
    deadlineMs: DeadlineMs,
  ): Promise<{ readonly restocked: boolean /** An earlier call had done it. */; readonly replayed: boolean } | Refusal>;

  /** Takes back what was not used within its claim window, at most `limit` at once, and answers what that was. */
  release(limit: number): Promise<GivenBack[]>;
  /** Counts those whose own validity has run out, at most `limit` at once, and answers how many it has looked at. */
  lapse(limit: number): Promise<number>;
}

/** One use on its way into Postgres. */
export interface UseAsk extends PlaceAsk {
  readonly userCouponId: string;
  readonly userId: string;
  /** 0: none. */
  readonly lockVersion: number;
  readonly productId: string;
  readonly orderId: string;
  readonly orderAmount: Money;
  /** Minor units, computed from the coupon of this revision. */
  readonly discountAmount: number;
  /** "" when the caller gave none. */
  readonly requestId: string;
  /** Its position in the request, from 0. */
  readonly item: number;
  /** Whether a place is held for it in the reservation layer. */
  readonly placeTaken: boolean;
  /** As in IssueAsk. */
  readonly untilMs?: number;
}

export type UseOutcome =
  | {
      /** The usage is committed. */ readonly kind: "USED";
      readonly usage: Usage;
      /** Whether this very commit took a place for it. A cancelled use may have left one since the order was judged. */
      readonly placed: boolean;
      /** Whether this commit has reached the coupon's usage cap. */
      readonly exhausted: boolean;
    }
  | { /** An earlier call with the same request id had used it. */ readonly kind: "REPLAYED" }
  | { /** Past `untilMs`; nothing was done. */ readonly kind: "TOO_LATE" }
  | { /** The coupon was edited since it was read: judge it anew. */ readonly kind: "STALE" }
  | {
      /** Nothing against this one, but against another one of the order; nothing was done. */ readonly kind: "CONSENT";
    }
  | { readonly kind: "REFUSED"; readonly reason: UseRefusal };

export interface LockAsk {
  readonly userCouponId: string;
  readonly couponId: string;
  readonly userId: string;
  /** Renews the lock of this version; 0: a new one is wanted. */
  readonly lockVersion: number;
  /** Names the call: a repeated one gets the lock that stands. */
  readonly token: string;
}

export interface Lock {
  readonly userCouponId: string;
  readonly version: number;
  readonly until: Date;
}

export type LockOutcome =
  | { readonly kind: "GRANTED"; readonly lock: Lock }
  | { /** As for UseOutcome. */ readonly kind: "CONSENT" }
  | { readonly kind: "REFUSED"; readonly reason: UseRefusal };

export interface CancelAsk {
  readonly userId: string;
  readonly usageId: string;
  /** Of a call without a request id, one that the call was given on its way. */
  readonly request: Pick<RequestKey, "requestId" | "inputHash">;
}

export type CancelRefusal = "USAGE_NOT_FOUND" | "USAGE_ALREADY_CANCELLED" | "REQUEST_ID_REUSED";

export type CancelOutcome =
  | {
      /** By this call, or by an earlier one with the same request id. */ readonly kind: "CANCELLED";
      readonly usage: Usage;
      /** A place under the usage cap went back to all. */
      readonly freed: boolean;
    }
  | { readonly kind: "REFUSED"; readonly reason: CancelRefusal };

export interface ChoiceAsk {
  readonly userId: string;
  readonly userCouponId: string;
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
  readChosen(asks: readonly ChoiceAsk[]): Promise<Dated<ChosenCoupon | null>[]>;

  /**
   * Uses a batch in one round trip, with one outcome for each ask in order. Within a batch no two asks may carry the same
   * request id. `again` as in `IssueStore.issueBatch`. With `together` they are one order: all or none.
   */
  useBatch(asks: readonly UseAsk[], options: { again: boolean; together: boolean }): Promise<UseOutcome[]>;

  /** Locks a batch in one round trip, with one outcome for each ask in order; `together` as in `useBatch`. */
  lockBatch(asks: readonly LockAsk[], options: { together: boolean }): Promise<LockOutcome[]>;

  /**
   * For each choice that names a code, the ids of the user's user coupons with it, best first: what this very request has
   * used or locked before, then what can be used, the earliest expiry first.
   */
  findByCodes(
    userId: string,
    choices: readonly (Choice & { readonly code: string })[],
    requestId: string,
    deadlineMs: DeadlineMs,
  ): Promise<readonly (readonly string[])[]>;

  /** The ids of those whose locks were given up; null, and nothing done, when the user does not hold all of them. */
  unlock(userId: string, choices: readonly Choice[], deadlineMs: DeadlineMs): Promise<string[] | null>;

  /**
   * Cancels a batch in one round trip, with one outcome for each ask in order. Within a batch no two asks may be of the same
   * usage or carry the same request id. `again` as in `IssueStore.issueBatch`.
   */
  cancelBatch(asks: readonly CancelAsk[], again: boolean): Promise<CancelOutcome[]>;

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

/** One issue on its way into Postgres. */
export interface IssueAsk extends Ask {
  /** The code that is wanted. Absent: any. */
  readonly codeId?: number;
  /** Whether the reservation layer let it through at its turn in the line of a throttled coupon. */
  readonly hasTurn?: boolean;
  /**
   * Until when it may be decided, in ms since 1970 by this machine's clock: later its reservation may be gone, or its
   * caller have been told something else. Absent: at any time.
   */
  readonly untilMs?: number;
}

/** What became of one row. */
export type IssueOutcome =
  | { /** The row is committed. */ readonly kind: "ISSUED"; readonly userCoupon: UserCoupon; readonly expiresAt: Date }
  | {
      /** An earlier call with the same request id had issued it. */ readonly kind: "REPLAYED";
      readonly userCouponId: string;
    }
  | { readonly kind: "REFUSED"; readonly reason: IssueRefusal | CodeRefusal | "REQUEST_ID_REUSED" }
  | { /** The coupon is throttled, and the ask has had no turn. */ readonly kind: "TURN_NEEDED" }
  | { /** Past `untilMs`; nothing was done. */ readonly kind: "TOO_LATE" };

/** The hot path's own port: batches, and what the reservation layer needs to be filled and swept. */
export interface IssueStore {
  /**
   * Issues a batch in one round trip, with one outcome for each ask in order. Within a batch no two asks may be of the
   * same user and coupon, nor carry the same request id, and either all name a code or none does. With `again`, asks that
   * an earlier call has committed get the same outcome: user coupon ids are chosen by the caller. Throws StoreUnavailable
   * when it is not known whether anything was committed.
   */
  issueBatch(asks: readonly IssueAsk[], again?: boolean): Promise<IssueOutcome[]>;

  /** Of the given ids, those that are stored. `isHeld`: neither deleted nor released since. */
  findIssued(userCouponIds: readonly string[]): Promise<Map<string, { validUntil: Date | null; isHeld: boolean }>>;

  /**
   * Reads what the reservation layer must know of a coupon, after waiting for an edit under way. Holders are handed over
   * in pages, all of one user in the same page; false from `onHolders` ends the reading. Null: no such coupon, or
   * the reading was ended.
   */
  readGate(couponId: string, onHolders: (holders: Holder[]) => Promise<boolean>): Promise<GateFacts | null>;

  /** null: it has no quota; undefined: no such coupon. Asks of one moment share a query. */
  quotaGroupOf(couponId: string): Promise<string | null | undefined>;

  /** What the reservation layer counts, as it is stored. */
  readStock(couponIds: readonly string[]): Promise<Map<string, Stock>>;
}

/** What an earlier call with the same request id has issued. */
export interface EarlierIssue {
  readonly userId: string;
  readonly couponId: string;
  /** Of the coupon, as it is now. */
  readonly type: CouponType | null;
}

/** Finds what is to be issued where the caller names no coupon. */
export interface TargetStore {
  /** null: there is no such code. */
  findCode(written: string, deadlineMs: DeadlineMs): Promise<FoundCode | null>;
  /** The coupons of a type that can be issued now, those that expire first before the others, at most `limit`. */
  listIssuable(type: CouponType, limit: number): Promise<readonly string[]>;
  findEarlierIssue(requestId: string, deadlineMs: DeadlineMs): Promise<EarlierIssue | null>;
}

export interface Stock {
  readonly revision: number;
  /** null: unlimited. */
  readonly remaining: number | null;
  /** Places left under the usage cap; null: no cap. */
  readonly remainingPlaces: number | null;
}
