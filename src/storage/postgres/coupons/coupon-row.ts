import { getTableColumns } from "drizzle-orm";
import type { Coupon, CouponDefinition, CouponType, Discount, Money } from "../../../domain/coupon.js";
import type { CouponEdit } from "../../ports/coupons.js";
import { coupons } from "../schema.js";

export type CouponRow = typeof coupons.$inferSelect;

/**
 * Named one by one wherever they are read: to a statement that reads `*` and was prepared before, a column that a later
 * release adds is an error.
 */
export const couponColumns: readonly string[] = Object.values(getTableColumns(coupons)).map(({ name }) => name);

export function toCoupon(row: CouponRow): Coupon {
  const { percentageBasisPoints, fixedAmount, currencyCode, maximumAmount, minimumOrderAmount, ...others } = row;
  const {
    throttleConcurrent,
    throttlePerSecond,
    throttleWaitMs,
    quotaGroup,
    quotaPerDay,
    isCodeBook,
    exactCodes,
    isPool,
    ...same
  } = others;
  const money = (minorUnits: number | null): Money | null =>
    minorUnits === null ? null : { currencyCode: currencyCode ?? "", minorUnits };
  const amount = money(fixedAmount);
  return {
    ...same,
    type: row.type as CouponType | null,
    throttle:
      throttlePerSecond === null
        ? null
        : {
            maxConcurrent: throttleConcurrent ?? 0,
            maxPerSecond: throttlePerSecond,
            maxWaitMs: throttleWaitMs ?? 0,
          },
    quota: quotaGroup === null ? null : { group: quotaGroup, maxPerDay: quotaPerDay ?? 0 },
    codeBook: isCodeBook ? { exactMatch: exactCodes } : null,
    isTypePool: isPool,
    discount: {
      kind: amount ? { case: "fixedAmount", amount } : { case: "percentage", basisPoints: percentageBasisPoints ?? 0 },
      maximumAmount: money(maximumAmount),
      minimumOrderAmount: money(minimumOrderAmount),
    },
  };
}

export function fromDefinition({ discount, codeBook, ...others }: CouponDefinition) {
  return {
    ...fromEdit(others),
    ...discountColumns(discount),
    isCodeBook: codeBook !== null,
    exactCodes: codeBook?.exactMatch ?? false,
  };
}

/** Without what never changes. */
export function fromEdit<E extends CouponEdit>({ discount, throttle, quota, codeBook: _, ...same }: E) {
  return {
    ...same,
    ...(discount && discountColumns(discount)),
    ...(throttle !== undefined && {
      throttleConcurrent: throttle?.maxConcurrent ?? null,
      throttlePerSecond: throttle?.maxPerSecond ?? null,
      throttleWaitMs: throttle?.maxWaitMs ?? null,
    }),
    ...(quota !== undefined && { quotaGroup: quota?.group ?? null, quotaPerDay: quota?.maxPerDay ?? null }),
  };
}

function discountColumns({ kind, maximumAmount, minimumOrderAmount }: Discount) {
  const amount = kind.case === "fixedAmount" ? kind.amount : null;
  const currencyCode = (amount ?? maximumAmount ?? minimumOrderAmount)?.currencyCode ?? null;
  return {
    percentageBasisPoints: kind.case === "percentage" ? kind.basisPoints : null,
    fixedAmount: amount?.minorUnits ?? null,
    currencyCode,
    maximumAmount: maximumAmount?.minorUnits ?? null,
    minimumOrderAmount: minimumOrderAmount?.minorUnits ?? null,
  };
}

const timestamps = [
  "startsAt",
  "expiresAt",
  "createdAt",
  "updatedAt",
  "pausedAt",
  "deletedAt",
  "revokedAt",
  "exhaustedAt",
] as const;
/** Of columns that are younger than rows that may be kept. */
const later = {
  maxUses: 1,
  lockDurationMs: 300_000,
  claimWindowMs: null,
  usedCount: 0,
  placeCount: 0,
  exhaustedAt: null,
  type: null,
  throttleConcurrent: null,
  throttlePerSecond: null,
  throttleWaitMs: null,
  quotaGroup: null,
  quotaPerDay: null,
  isCodeBook: false,
  exactCodes: false,
  isPool: false,
  labels: null,
};

/** A row as it is kept in a JSON column: the same fields, times as ISO 8601 text. */
export function rowFromJson(json: unknown): CouponRow {
  const row: Record<string, unknown> = { ...later, ...(json as CouponRow) };
  for (const field of timestamps) {
    if (row[field] !== null) row[field] = new Date(row[field] as string);
  }
  return row as CouponRow;
}
