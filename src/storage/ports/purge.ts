export interface PurgeTerms {
  /** Days after the expiry, 1 to 3,650. */
  readonly afterDays: number;
  /** Hours after a code book was deleted for which its free codes stay, 0 to 87,600. */
  readonly deletedCodesKeepHours: number;
  /** Only counts. */
  readonly dryRun: boolean;
  /** Rows looked at in one transaction. */
  readonly batchSize: number;
}

/** What one purge goes through, in the order of some index. */
export type PurgeWalk =
  | { /** Expired, deleted or released before they were ever used. */ readonly kind: "ENDED_USER_COUPONS" }
  | { /** Of codes that have expired. */ readonly kind: "EXPIRED_CODES" }
  | EndedCouponWalk;

export interface EndedCouponWalk {
  /** A deletion, too, is the end of codes that nobody holds. */
  readonly kind: "USER_COUPONS_OF_ENDED_COUPON" | "FREE_CODES_OF_ENDED_COUPON";
  readonly couponId: string;
}

export interface EndedPage {
  readonly walks: readonly EndedCouponWalk[];
  /** The last coupon that was looked at, when there may be others behind it. */
  readonly next: string | null;
}

export interface PurgeBatch {
  readonly userCoupons: number;
  readonly codes: number;
  /** Where the next batch begins; null: the walk is over. */
  readonly next: string | null;
}

export interface PurgeStore {
  /**
   * Coupons that ended so long ago, or code books that were deleted, and have something left that is to be purged. One batch of all
   * coupons is looked at, in the order of their ids: those after `after`, from the first one with null.
   */
  findEnded(terms: PurgeTerms, after: string | null): Promise<EndedPage>;
  /** One batch of a walk, from its beginning with null. "BUSY", and nothing done, while another replica purges. */
  purge(walk: PurgeWalk, terms: PurgeTerms, from: string | null): Promise<PurgeBatch | "BUSY">;
  /** One batch of remembered requests and of what quotas have counted; "BUSY" as above. */
  purgeRecords(terms: PurgeTerms): Promise<{ readonly requests: number; readonly quotaDays: number } | "BUSY">;
}
