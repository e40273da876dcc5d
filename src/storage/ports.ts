import type { Coupon, CouponDefinition } from "../domain/coupon.js";
import type { IssueRefusal } from "../domain/issue.js";
import type { Refusal } from "../domain/refusal.js";
import type { UserCoupon } from "../domain/user-coupon.js";
import type { Ask, GateFacts, Holder } from "../reservation/port.js";

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
  /** The id of the last row of the page before; null for the first page. Rows come in falling order of their ids. */
  readonly before: string | null;
}

/** What a page was read at: states and statuses are derived for this moment of the database's clock. */
export interface Listed<T> {
  readonly rows: readonly T[];
  readonly hasMore: boolean;
  readonly now: Date;
}

export interface Dated<T> {
  readonly value: T;
  readonly now: Date;
}

/** What an edit may change besides the definition. */
export type CouponEdit = Partial<CouponDefinition & Pick<Coupon, "pausedAt" | "deletedAt" | "revokedAt">>;

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

export interface UserCouponWithCoupon {
  readonly userCoupon: UserCoupon;
  readonly coupon: Coupon;
}

export interface UserCouponStore {
  /** null when it is unknown or somebody else's. */
  get(userId: string, userCouponId: string, deadlineMs: DeadlineMs): Promise<Dated<UserCouponWithCoupon> | null>;
  list(userId: string, page: Page, showExpired: boolean, deadlineMs: DeadlineMs): Promise<Listed<UserCouponWithCoupon>>;
}

/** What became of one row. */
export type IssueOutcome =
  | { /** The row is committed. */ readonly kind: "ISSUED"; readonly userCoupon: UserCoupon; readonly expiresAt: Date }
  | {
      /** An earlier call with the same request id had issued it. */ readonly kind: "REPLAYED";
      readonly userCouponId: string;
    }
  | { readonly kind: "REFUSED"; readonly reason: IssueRefusal | "REQUEST_ID_REUSED" };

/** The hot path's own port: batches, and what the reservation layer needs to be filled and swept. */
export interface IssueStore {
  /**
   * Issues a batch in one round trip, with one outcome for each ask in order. Within a batch no two asks may be of the
   * same user and coupon, nor carry the same request id. With `again`, asks that an earlier call has committed get the same
   * outcome: user coupon ids are chosen by the caller. Throws StoreUnavailable when it is not known whether anything was committed.
   */
  issueBatch(asks: readonly Ask[], again?: boolean): Promise<IssueOutcome[]>;

  /** Of the given ids, those that are stored. */
  findIssued(userCouponIds: readonly string[]): Promise<Map<string, { validUntil: Date | null }>>;

  /**
   * Reads what the reservation layer must know of a coupon, after waiting for an edit under way. Holders are handed over
   * in pages, all of one user in the same page; false from `onHolders` ends the reading. Null: no such coupon, or
   * the reading was ended.
   */
  readGate(couponId: string, onHolders: (holders: Holder[]) => Promise<boolean>): Promise<GateFacts | null>;

  /** Revision and remaining stock (null: unlimited) of the given coupons. */
  readStock(couponIds: readonly string[]): Promise<Map<string, { revision: number; remaining: number | null }>>;
}
