/** What the model is made of, and what may be asked of it. Times are in ms since 1970, money in minor units. */
export interface Money {
  readonly currency: string;
  readonly units: number;
}

export interface Discount {
  readonly kind: "percentage" | "fixed";
  /** Basis points, or minor units. */
  readonly value: number;
  /** Of all its amounts; null: it has none. */
  readonly currency: string | null;
  readonly maximum: number | null;
  readonly minimum: number | null;
}

/** What a merchant decides. null: no limit. */
export interface Definition {
  readonly discount: Discount;
  readonly startsAt: number;
  readonly expiresAt: number;
  readonly quantity: number | null;
  readonly validityMs: number | null;
  readonly maxPerUser: number;
  readonly usageCap: number | null;
  readonly stackable: boolean;
  readonly maxUses: number;
  readonly lockMs: number;
  readonly claimMs: number | null;
}

export interface Coupon extends Definition {
  readonly id: string;
  readonly revision: number;
  readonly issuedCount: number;
  readonly pausedAt: number | null;
  readonly deletedAt: number | null;
  readonly revokedAt: number | null;
  readonly exhaustedAt: number | null;
}

export interface UserCoupon {
  readonly id: string;
  readonly couponId: string;
  readonly userId: string;
  readonly requestId: string;
  readonly validUntil: number | null;
  readonly maxUses: number;
  /** The most uses that ever stood at once: a cancelled one keeps its place under the usage cap. */
  places: number;
  claimUntil: number | null;
  releasedAt: number | null;
  deletedAt: number | null;
  /** The last one; it stands while `until` is ahead. */
  lock: { version: number; until: number; requestId: string };
}

export interface Usage {
  readonly id: string;
  readonly userCouponId: string;
  readonly userId: string;
  readonly orderId: string;
  readonly amount: Money;
  readonly discount: number;
  readonly requestId: string;
  readonly usedAt: number;
  cancelledAt: number | null;
}

export interface Choice {
  readonly id: string;
  /** 0: none. */
  readonly lockVersion: number;
}

export interface Order {
  readonly userId: string;
  readonly choices: readonly Choice[];
  readonly orderId: string;
  /** null: not known yet. */
  readonly amount: Money | null;
}

export type Call =
  | { readonly method: "create"; readonly definition: Definition; readonly requestId: string }
  | {
      readonly method: "update";
      readonly couponId: string;
      readonly revision: number;
      readonly change: Partial<Definition>;
      readonly requestId: string;
    }
  | { readonly method: "pause" | "resume"; readonly couponId: string; readonly requestId: string }
  | { readonly method: "delete"; readonly couponId: string; readonly revoke: boolean; readonly requestId: string }
  | { readonly method: "getCoupon"; readonly couponId: string }
  | { readonly method: "issue"; readonly couponId: string; readonly userId: string; readonly requestId: string }
  | { readonly method: "quote"; readonly order: Order }
  | { readonly method: "lock" | "use"; readonly order: Order; readonly requestId: string }
  | { readonly method: "unlock"; readonly userId: string; readonly choices: readonly Choice[] }
  | { readonly method: "cancel"; readonly userId: string; readonly usageId: string; readonly requestId: string }
  | {
      readonly method: "deleteUserCoupon";
      readonly userId: string;
      readonly userCouponId: string;
      readonly restock: boolean;
      readonly deleteUsed: boolean;
      readonly requestId: string;
    }
  | { readonly method: "getUserCoupon"; readonly userId: string; readonly userCouponId: string }
  | { readonly method: "listUserCoupons"; readonly userId: string; readonly showExpired: boolean }
  | { readonly method: "listUsages"; readonly userId: string; readonly showCancelled: boolean }
  | { readonly method: "release" };

/** Plain values, so that what was answered can be held against what should have been. */
export interface Answer {
  /** The reason, when the call was refused. */
  readonly refused?: string;
  /** Of an order: every reason against each choice. */
  readonly against?: readonly (readonly string[])[];
  /** When only locks are in the way. */
  readonly retryMs?: number;
  readonly [field: string]: unknown;
}

/** `or`: what may be answered as well, in the cases in which the contract leaves it open. */
export type Expected = Answer & { readonly or?: Answer };

/** Everything there is, in plain data. */
export interface State {
  now: number;
  coupons: Coupon[];
  userCoupons: UserCoupon[];
  usages: Usage[];
  /** By method and request id: what was asked, and answered. */
  answered: Record<string, { input: string; answer: Answer }>;
  events: string[];
}

/** The reasons that a use is checked for once more when it is stored. */
export const standingReasons = [
  "USER_COUPON_NOT_FOUND",
  "USER_COUPON_RELEASED",
  "ALREADY_USED",
  "USER_COUPON_REVOKED",
  "USAGE_CAP_REACHED",
  "USER_COUPON_EXPIRED",
  "LOCKED",
  "LOCK_LOST",
];
