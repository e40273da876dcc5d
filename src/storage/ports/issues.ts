import type { FoundCode } from "../../domain/code.js";
import type { CouponType } from "../../domain/coupon.js";
import type { CodeRefusal, IssueRefusal } from "../../domain/issue.js";
import type { Labels } from "../../domain/labels.js";
import type { UserCoupon } from "../../domain/user-coupon.js";
import type { HoldingPage } from "../../reservation/packed-holdings.js";
import type { GateFacts, GateRequest } from "../../reservation/port.js";
import type { DeadlineMs } from "./page.js";

/** One issue on its way into Postgres. */
export interface IssueRequest extends GateRequest {
  /** The code that is wanted. Absent: any. */
  readonly codeId?: number;
  /** The type that the coupon must have when it is issued. Absent: any. */
  readonly type?: CouponType;
  /** What is to be kept with the user coupon. Absent or null: nothing. */
  readonly labels?: Labels | null;
  /** Whether the gate let it through with a ticket of a throttled coupon. */
  readonly hasTicket?: boolean;
  /**
   * Until when it may be decided, in ms since 1970 by this machine's clock: later its reservation may be gone, or its
   * caller have been told something else. Absent: at any time.
   */
  readonly untilMs?: number;
}

/** What became of one row. */
export type IssueResult =
  | {
      /** The row is committed. */ readonly outcome: "ISSUED";
      readonly userCoupon: UserCoupon;
      readonly expiresAt: Date;
    }
  | {
      /** An earlier call with the same request id had issued it. */ readonly outcome: "REPLAYED";
      readonly userCouponId: string;
    }
  | { readonly outcome: "REFUSED"; readonly reason: IssueRefusal | CodeRefusal | "REQUEST_ID_REUSED" }
  | { /** The coupon is throttled, and the request has no ticket. */ readonly outcome: "TICKET_NEEDED" }
  | { /** The coupon is not of the type that was asked for, or not any more. */ readonly outcome: "OTHER_TYPE" }
  | { /** Past `untilMs`; nothing was done. */ readonly outcome: "TOO_LATE" };

/** The hot path's own port: batches, and what the gate needs to be filled and swept. */
export interface IssueStore {
  /**
   * Issues a batch in one round trip, with one result for each request in order. Within a batch no two may be of the same
   * user and coupon, nor carry the same request id, and either all name a code or none does. With `again`, requests that
   * an earlier call has committed get the same result: user coupon ids are chosen by the caller. Throws StoreUnavailable
   * when it is not known whether anything was committed.
   */
  issueBatch(requests: readonly IssueRequest[], again?: boolean): Promise<IssueResult[]>;

  /** Of the given ids, those that are stored. `isHeld`: neither deleted nor released since. */
  findIssued(userCouponIds: readonly string[]): Promise<Map<string, { validUntil: Date | null; isHeld: boolean }>>;

  /**
   * Reads what the gate must know of a coupon, after waiting for an edit under way. Holdings are handed over
   * in pages, and after each step of the reading without any; false from `onHoldings` ends the reading. The next step waits for it.
   * A bucket comes once, or more often when there are more holdings than memory has room for.
   * Null: no such coupon, or the reading was ended.
   */
  readGate(
    couponId: string,
    onHoldings: (pages: readonly HoldingPage[]) => Promise<boolean>,
  ): Promise<GateFacts | null>;

  /** null: it has no quota; undefined: no such coupon. Calls of one moment share a query. */
  quotaGroupOf(couponId: string): Promise<string | null | undefined>;

  /**
   * What can still be issued of a coupon, read after this call; null: without limit, or no such coupon. Calls of one moment
   * share a query. Throws DeadlinePassed and StoreUnavailable.
   */
  readStock(couponId: string, deadlineMs: DeadlineMs): Promise<number | null>;

  /** What the gate counts, as it is stored. */
  readCounts(couponIds: readonly string[]): Promise<Map<string, StoredCounts>>;
}

/** What an earlier call with the same request id has issued. */
export interface EarlierIssue {
  readonly userId: string;
  readonly couponId: string;
  /** Of the coupon, as it is now. */
  readonly type: CouponType | null;
  /** What was issued of a code book: its code, and what that is found by. It may not be there any more. */
  readonly code: { readonly id: number; readonly key: string } | null;
}

/** Finds what is to be issued where the caller names no coupon. */
export interface TargetStore {
  /**
   * null: there is no such code. `forUser`: nor is there one that is taken by others, as far as this user may know; to find
   * that out takes as long as to find that there is none.
   */
  findCode(written: string, deadlineMs: DeadlineMs, forUser?: string): Promise<FoundCode | null>;
  /** What is remembered of it is out of date. */
  forgetCode(written: string): void;
  /** The coupons of a type that can be issued now, those that expire first before the others, at most `limit`. */
  listIssuable(type: CouponType, limit: number): Promise<readonly string[]>;
  findEarlierIssue(requestId: string, deadlineMs: DeadlineMs): Promise<EarlierIssue | null>;
}

export interface StoredCounts {
  readonly revision: number;
  /** When it got its revision: see GateFacts. */
  readonly updatedAt: Date;
  /** null: unlimited. */
  readonly stock: number | null;
  /** Places left under the usage cap; null: no cap. */
  readonly remainingPlaces: number | null;
  /** User coupons that were ever deleted or released. */
  readonly givenBackTotal: number;
}
