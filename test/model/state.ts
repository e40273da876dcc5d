import type { Answer } from "./call.js";

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

export type CouponType = "FREE" | "STANDARD" | "MEGADEAL";

/** What a merchant decides. null: no limit, or none; or it is left out, and has what the contract says then. */
export interface Definition {
  readonly name: string;
  readonly description: string;
  readonly category: string;
  /** Its entries in order, "a=1,b=2"; "": none. */
  readonly labels: string;
  readonly type: CouponType | null;
  /** Wide enough that all are let through in the end. */
  readonly throttle: {
    readonly maxConcurrent: number;
    readonly maxPerSecond: number;
    readonly maxWaitMs: number;
  } | null;
  readonly quota: { readonly group: string; readonly maxPerDay: number } | null;
  /** How its codes are told apart. null: it is no code book. */
  readonly book: "folded" | "exact" | null;
  readonly discount: Discount;
  readonly startsAt: number | null;
  readonly expiresAt: number;
  readonly quantity: number | null;
  readonly validityMs: number | null;
  readonly maxPerUser: number | null;
  readonly usageCap: number | null;
  readonly stackable: boolean;
  readonly maxUses: number | null;
  readonly lockMs: number | null;
  readonly claimMs: number | null;
}

export interface Coupon extends Definition {
  readonly startsAt: number;
  readonly maxPerUser: number;
  readonly maxUses: number;
  readonly lockMs: number;
  readonly id: string;
  /** Whether it is the pool of its type. */
  readonly isTypePool: boolean;
  readonly createdAt: number;
  /** When the definition last changed. */
  readonly updatedAt: number;
  readonly revision: number;
  readonly issuedCount: number;
  readonly pausedAt: number | null;
  readonly deletedAt: number | null;
  readonly revokedAt: number | null;
  readonly exhaustedAt: number | null;
}

/** What a code has of its own. null: the coupon's holds. */
export interface Terms {
  readonly discount: Discount | null;
  readonly expiresAt: number | null;
  readonly maxUses: number | null;
  readonly maxHolders: number;
}

export interface Code extends Terms {
  readonly number: number;
  readonly couponId: string;
  /** As it was uploaded or generated. */
  readonly code: string;
  readonly createdAt: number;
  /** Seats that are taken. */
  holders: number;
  /** When it was taken out of stock. */
  outOfStockAt: number | null;
  /** The upload or the job that it came by. */
  readonly source: string;
}

/** What makes codes to a pattern. */
export interface Job {
  readonly id: string;
  readonly couponId: string;
  /** What comes before the one character that differs, and what that can be. */
  readonly stem: string;
  readonly characters: string;
  readonly count: number;
  readonly terms: Terms;
  made: number;
  failure: string;
  readonly createdAt: number;
  endedAt: number | null;
}

/** One call of UploadCodes that has added codes. */
export interface Upload {
  readonly id: string;
  readonly couponId: string;
}

export interface UserCoupon {
  readonly id: string;
  readonly labels: string;
  /** The code that it carries, and what that takes off. null: none. */
  readonly codeNumber: number | null;
  readonly code: string | null;
  readonly discount: Discount | null;
  /** Whether it is on record that its validity ran out before it was used up. */
  countedExpired: boolean;
  /** Since when it is so, or deleted, or released. */
  endedAt: number | null;
  readonly couponId: string;
  readonly userId: string;
  readonly requestId: string;
  readonly issuedAt: number;
  readonly validUntil: number | null;
  readonly maxUses: number;
  /** The most uses that ever stood at once: a cancelled one keeps its place under the usage cap. */
  places: number;
  claimUntil: number | null;
  releasedAt: number | null;
  deletedAt: number | null;
  /** The last one; it stands while `until` is ahead. */
  lock: { version: number; until: number; requestId: string; orderId: string };
}

export interface Usage {
  readonly id: string;
  readonly labels: string;
  /** What the user coupon and its coupon had then. */
  readonly code: string | null;
  readonly couponName: string;
  readonly couponType: CouponType | null;
  readonly userCouponId: string;
  readonly couponId: string;
  readonly userId: string;
  readonly productId: string;
  readonly orderId: string;
  readonly amount: Money;
  readonly discount: number;
  /** What other uses of its order that stood took off. */
  readonly before: number;
  readonly requestId: string;
  readonly usedAt: number;
  cancelledAt: number | null;
}

/** What was purged of one coupon, which stays counted. */
export interface Purged {
  readonly expired: number;
  readonly deleted: number;
  readonly released: number;
  readonly codes: number;
}

/** What happened, and whom it was about. Purges are not among them: how many steps they take is the service's choice. */
export interface Happening {
  readonly kind: string;
  readonly couponId: string;
  readonly userCouponId: string;
  readonly userId: string;
  readonly usageId: string;
  /** Of the coupon, after its definition changed; 0: it did not. */
  readonly revision: number;
  /** Of codes. */
  readonly count: number;
  readonly at: number;
  /** During which turn. */
  readonly turn: number;
}

/** What is on record of an administrative call that was done: what it was about, and what that was before and afterwards. */
export interface AdminRecord {
  readonly method: string;
  readonly requestId: string;
  readonly targetId: string;
  readonly before: object | null;
  readonly after: object;
  readonly at: number;
}

/** Everything there is, in plain data. */
export interface State {
  now: number;
  coupons: Coupon[];
  userCoupons: UserCoupon[];
  usages: Usage[];
  /** In the order in which they were added. */
  codes: Code[];
  /** The number of the last one that was added. */
  lastCode: number;
  jobs: Job[];
  uploads: Upload[];
  /** By quota group, user and day: how many were issued. */
  issuedOnDay: Record<string, number>;
  /** By coupon. */
  purged: Record<string, Purged>;
  /** By method and request id: what was asked, and answered. */
  answered: Record<string, { input: string; answer: Answer; at: number }>;
  /** By coupon: those that locks have had. */
  lockVersions: Record<string, number[]>;
  events: string[];
  /** The same with what readers of events are told, in the order in which the model did it. */
  history: Happening[];
  records: AdminRecord[];
  /** Grows with each call, or crowd of calls. */
  turn: number;
}
