/** What is read of the contract's messages, as JSON has them: 64-bit numbers are texts, and what is 0 or empty is left out. */
export interface Money {
  readonly currencyCode?: string;
  readonly minorUnits?: string;
}

export interface Discount {
  readonly percentageBasisPoints?: number;
  readonly fixedAmount?: Money;
  readonly maximumAmount?: Money;
  readonly minimumOrderAmount?: Money;
}

export interface Coupon {
  readonly id: string;
  readonly name?: string;
  readonly description?: string;
  readonly category?: string;
  readonly discount?: Discount;
  readonly startTime?: string;
  readonly expireTime?: string;
  readonly quantity?: string;
  readonly validityAfterIssue?: string;
  readonly maxPerUser?: number;
  readonly usageCap?: string;
  readonly maxUses?: number;
  readonly claimWindow?: string;
  readonly stackable?: boolean;
  readonly issuedCount?: string;
  readonly remainingCount?: string;
  readonly usedCount?: string;
  readonly state?: string;
  readonly type?: string;
  readonly throttle?: { readonly maxConcurrent?: number; readonly maxPerSecond?: number; readonly maxWait?: string };
  readonly quota?: { readonly group?: string; readonly maxPerDay?: number };
  readonly codeBook?: object;
}

export interface CouponPage {
  readonly coupons?: readonly Coupon[];
  readonly nextPageToken?: string;
  readonly correctedQuery?: string;
}

export type Stats = Readonly<Record<string, string>>;

export interface Activity {
  readonly replicaId?: string;
  readonly sinceTime?: string;
  readonly outcomes?: readonly { readonly reason?: string; readonly count?: string }[];
  readonly latencies?: readonly { readonly atMost?: string; readonly count?: string }[];
}

export interface CodeJob {
  readonly id: string;
  readonly pattern?: string;
  readonly count?: number;
  readonly madeCount?: number;
  readonly state?: string;
  readonly failure?: string;
  readonly createTime?: string;
  readonly endTime?: string;
}

export interface UserCoupon {
  readonly id: string;
  readonly couponId?: string;
  readonly status?: string;
  readonly issueTime?: string;
  readonly expireTime?: string;
  readonly coupon?: Coupon;
  readonly code?: string;
  readonly maxUses?: number;
  readonly useCount?: number;
}

export interface Usage {
  readonly id: string;
  readonly userId?: string;
  readonly productId?: string;
  readonly orderId?: string;
  readonly code?: string;
  readonly orderAmount?: Money;
  readonly discountAmount?: Money;
  readonly useTime?: string;
  readonly cancelTime?: string;
}

export const numberOf = (text: string | number | undefined): number => Number(text ?? 0);

/** COUPON_STATE_SOLD_OUT is SOLD_OUT. */
export const withoutPrefix = (name: string | undefined, prefix: string): string =>
  (name ?? "").startsWith(prefix) ? (name as string).slice(prefix.length) : (name ?? "");
