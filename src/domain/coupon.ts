import { checkLabels, type Labels } from "./labels.js";
import { type FieldViolation, Refusal } from "./refusal.js";

export interface Money {
  readonly currencyCode: string;
  /** Minor units of the currency, 0 to 10^15. */
  readonly minorUnits: number;
}

export type DiscountKind =
  | { readonly case: "percentage" /** 1 to 10,000 */; readonly basisPoints: number }
  | { readonly case: "fixedAmount"; readonly amount: Money };

export interface Discount {
  readonly kind: DiscountKind;
  readonly maximumAmount: Money | null;
  readonly minimumOrderAmount: Money | null;
}

export const couponTypes = ["FREE", "STANDARD", "MEGADEAL"] as const;
export type CouponType = (typeof couponTypes)[number];

/** How fast a coupon is issued at most, over all replicas. */
export interface Throttle {
  /** 1 to 1,000. */
  readonly maxConcurrent: number;
  /** 1 to 1,000. */
  readonly maxPerSecond: number;
  /** How long a caller waits for its turn at most, 0 to 20,000 ms. */
  readonly maxWaitMs: number;
}

/** What one user is issued at most in a day over all coupons of a group. */
export interface Quota {
  readonly group: string;
  /** 1 to 1,000. */
  readonly maxPerDay: number;
}

/** What a merchant decides about a coupon. */
export interface CouponDefinition {
  readonly name: string;
  readonly description: string;
  readonly category: string;
  readonly discount: Discount;
  readonly startsAt: Date;
  readonly expiresAt: Date;
  /** null: unlimited. */
  readonly quantity: number | null;
  /** null: valid until the coupon's own expire time. */
  readonly validityAfterIssueMs: number | null;
  readonly maxPerUser: number;
  /** null: no cap. */
  readonly usageCap: number | null;
  readonly stackable: boolean;
  /** How many times one user coupon of it may be used, 1 to 1,000. */
  readonly maxUses: number;
  readonly lockDurationMs: number;
  /** null: what is not used stays the user's. */
  readonly claimWindowMs: number | null;
  readonly type: CouponType | null;
  /** null: it is issued as fast as callers come. */
  readonly throttle: Throttle | null;
  /** null: none. The group never changes. */
  readonly quota: Quota | null;
  /** Its stock is its codes. null: it has none. Never changes. */
  readonly codeBook: CodeBook | null;
  /** null: none. */
  readonly labels: Labels | null;
}

export interface CodeBook {
  /** Whether codes are told apart by case and separators. */
  readonly exactMatch: boolean;
}

/** What a MEGADEAL coupon has unless it has a throttle of its own. */
const megadealThrottle: Throttle = { maxConcurrent: 5, maxPerSecond: 10, maxWaitMs: 10_000 };
export const defaultMaxWaitMs = 10_000;

export interface Coupon extends CouponDefinition {
  readonly id: string;
  readonly issuedCount: number;
  /** Uses that stand. */
  readonly usedCount: number;
  /** Places taken under the usage cap: at least `usedCount`, for a cancelled use keeps its place. */
  readonly placeCount: number;
  /** When the usage cap was reached: from then on what was never used is REVOKED. */
  readonly exhaustedAt: Date | null;
  readonly revision: number;
  readonly createdAt: Date;
  readonly updatedAt: Date;
  readonly pausedAt: Date | null;
  readonly deletedAt: Date | null;
  /** Whether it is a type pool: that of its type. */
  readonly isTypePool: boolean;
  /** Set when it was deleted with `revoke_issued`: from then on what was issued and not used is REVOKED. */
  readonly revokedAt: Date | null;
}

export type CouponState = "SCHEDULED" | "ACTIVE" | "PAUSED" | "EXHAUSTED" | "SOLD_OUT" | "ENDED" | "DELETED";

export function couponState(coupon: Coupon, now: Date): CouponState {
  if (coupon.deletedAt) return "DELETED";
  if (now >= coupon.expiresAt) return "ENDED";
  if (coupon.pausedAt) return "PAUSED";
  if (now < coupon.startsAt) return "SCHEDULED";
  if (coupon.exhaustedAt) return "EXHAUSTED";
  if (remainingCount(coupon) === 0) return "SOLD_OUT";
  return "ACTIVE";
}

/** How many can still be issued; null when unlimited. */
export function remainingCount(coupon: Pick<Coupon, "quantity" | "issuedCount">): number | null {
  return coupon.quantity === null ? null : Math.max(0, coupon.quantity - coupon.issuedCount);
}

/** How many more places its usage cap has to give; null without a cap. What is freed after it was reached is nobody's. */
export function remainingUseCount(coupon: Pick<Coupon, "usageCap" | "placeCount" | "exhaustedAt">): number | null {
  if (coupon.usageCap === null) return null;
  return coupon.exhaustedAt ? 0 : Math.max(0, coupon.usageCap - coupon.placeCount);
}

/**
 * Since when a coupon counts as exhausted after an edit of its usage cap. An edit that leaves the cap as it is changes
 * nothing: a place that is freed later does not wake what was revoked.
 */
export function exhaustionOf(
  usageCap: number | null,
  current: Pick<Coupon, "usageCap" | "placeCount" | "exhaustedAt">,
  now: Date,
): Date | null {
  if (usageCap === current.usageCap) return current.exhaustedAt;
  return usageCap !== null && current.placeCount >= usageCap ? (current.exhaustedAt ?? now) : null;
}

/**
 * A type pool, which the first upload of codes for it makes. Every code of it has a discount and an end of its own: the pool's own
 * discount is not shown, and takes nothing off; it never ends.
 */
export function typePoolDefinition(type: CouponType, now: Date): CouponDefinition {
  return {
    name: `${type} codes`,
    description: `Codes that were uploaded for the type ${type}, and for no coupon`,
    category: "",
    discount: { kind: { case: "percentage", basisPoints: 1 }, maximumAmount: null, minimumOrderAmount: null },
    startsAt: now,
    expiresAt: new Date("9999-12-31T23:59:59.999Z"),
    quantity: 0,
    validityAfterIssueMs: null,
    maxPerUser: 100,
    usageCap: null,
    stackable: false,
    maxUses: 1,
    lockDurationMs: 300_000,
    claimWindowMs: null,
    type,
    throttle: throttleOf(type, null),
    quota: null,
    codeBook: { exactMatch: false },
    labels: null,
  };
}

function throttleOf(type: CouponType | null, own: Throttle | null): Throttle | null {
  return own ?? (type === "MEGADEAL" ? megadealThrottle : null);
}

/** A definition on its way to becoming one: what a caller sent may lack the required fields. */
export type CouponDraft = {
  readonly [K in keyof CouponDefinition]: K extends "discount" | "startsAt" | "expiresAt"
    ? CouponDefinition[K] | null
    : CouponDefinition[K];
};

/** ISO 4217 codes. ICU also knows withdrawn currencies; nobody gives a discount in a currency that no longer exists. */
const withdrawnCurrencies = new Set(["DEM", "FRF", "ITL", "ESP", "ATS", "BEF", "NLG", "PTE", "FIM", "IEP", "GRD"]);
const currencies = new Set(Intl.supportedValuesOf("currency").filter((code) => !withdrawnCurrencies.has(code)));

/**
 * Checks the rules that involve more than one field, or that hold only for a whole coupon. The ranges of single fields
 * are in the proto file and have been checked before. Field paths start with "coupon.".
 */
export function checkDefinition(draft: CouponDraft): CouponDefinition | Refusal {
  const violations: FieldViolation[] = [];
  const wrong = (field: string, description: string, ...about: string[]) =>
    violations.push({ field: `coupon.${field}`, description, ...(about.length > 0 && { about }) });

  if (draft.name.trim() === "") wrong("name", "is required");
  for (const field of ["name", "description", "category"] as const) {
    if (draft[field].includes("\0")) wrong(field, "must not contain a NUL character");
  }
  const wrongLabels = draft.labels && checkLabels(draft.labels);
  if (wrongLabels) wrong("labels", wrongLabels);
  const { discount, startsAt, expiresAt } = draft;
  if (discount === null) wrong("discount", "is required", "coupon.discount.kind");
  else checkDiscount(discount, wrong);
  if (expiresAt === null) wrong("expire_time", "is required");
  if (startsAt === null) wrong("start_time", "cannot be cleared");
  if (startsAt && expiresAt && expiresAt <= startsAt) {
    wrong("expire_time", "must be after start_time", "coupon.start_time");
  }
  if (draft.quantity !== null && draft.quantity < 1 && !draft.codeBook) wrong("quantity", "must be at least 1");

  if (violations.length > 0 || !discount || !startsAt || !expiresAt) return new Refusal("INVALID_FIELD", violations);
  return { ...draft, discount, startsAt, expiresAt, throttle: throttleOf(draft.type, draft.throttle) };
}

/** What is wrong with a currency code; undefined: nothing. */
export function checkCurrency(code: string): string | undefined {
  return currencies.has(code) ? undefined : "is not a known ISO 4217 currency code";
}

/** The rules of a discount that involve more than one field; paths start with "discount.". */
export function checkDiscount(discount: Discount, wrong: (field: string, description: string) => void): void {
  const { kind, maximumAmount, minimumOrderAmount } = discount;
  const amounts: [string, Money | null, number][] = [
    ["discount.fixed_amount", kind.case === "fixedAmount" ? kind.amount : null, 1],
    ["discount.maximum_amount", maximumAmount, 1],
    ["discount.minimum_order_amount", minimumOrderAmount, 0],
  ];
  if (kind.case === "fixedAmount" && maximumAmount) {
    wrong("discount.maximum_amount", "is for percentages only");
  }
  let currency: string | undefined;
  for (const [field, money, leastMinorUnits] of amounts) {
    if (!money) continue;
    const unknown = checkCurrency(money.currencyCode);
    if (unknown) {
      wrong(`${field}.currency_code`, unknown);
    } else if (currency && money.currencyCode !== currency) {
      wrong(`${field}.currency_code`, `must be ${currency} like the other amounts of this discount`);
    }
    if (!unknown) currency ??= money.currencyCode;
    if (money.minorUnits < leastMinorUnits) wrong(`${field}.minor_units`, `must be at least ${leastMinorUnits}`);
  }
}
