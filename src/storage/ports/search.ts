import type { Coupon, CouponType } from "../../domain/coupon.js";
import type { DeadlineMs } from "./page.js";

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
export interface SearchCursor {
  readonly tier: number;
  readonly couponId: string;
}

export interface FoundCoupons {
  readonly rows: readonly Coupon[];
  readonly now: Date;
  /** What the next page comes after; null: this is the last one. */
  readonly next: SearchCursor | null;
  /** The words that were looked for instead; "" when the query was taken as it is. */
  readonly correctedQuery: string;
}

export interface SearchStore {
  /** A page, best first, of 1 to 100 coupons. Throws as CouponStore does. */
  search(
    query: CouponQuery,
    page: { readonly size: number; readonly after: SearchCursor | null },
    deadlineMs: DeadlineMs,
  ): Promise<FoundCoupons>;
}
