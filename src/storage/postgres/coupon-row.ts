import type { Coupon, CouponDefinition, Discount, Money } from "../../domain/coupon.js";
import type { CouponEdit } from "../ports.js";
import type { coupons } from "./schema.js";

export type CouponRow = typeof coupons.$inferSelect;

export function toCoupon(row: CouponRow): Coupon {
  const { percentageBasisPoints, fixedAmount, currencyCode, maximumAmount, minimumOrderAmount, ...same } = row;
  const money = (minorUnits: number | null): Money | null =>
    minorUnits === null ? null : { currencyCode: currencyCode ?? "", minorUnits };
  const amount = money(fixedAmount);
  return {
    ...same,
    discount: {
      kind: amount ? { case: "fixedAmount", amount } : { case: "percentage", basisPoints: percentageBasisPoints ?? 0 },
      maximumAmount: money(maximumAmount),
      minimumOrderAmount: money(minimumOrderAmount),
    },
  };
}

export function fromDefinition({ discount, ...same }: CouponDefinition) {
  return { ...same, ...discountColumns(discount) };
}

export function fromEdit({ discount, ...same }: CouponEdit) {
  return discount ? { ...same, ...discountColumns(discount) } : same;
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

const moments = [
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
};

/** A row as it is kept in a JSON column: the same fields, times as ISO 8601 text. */
export function rowFromJson(json: unknown): CouponRow {
  const row: Record<string, unknown> = { ...later, ...(json as CouponRow) };
  for (const field of moments) {
    if (row[field] !== null) row[field] = new Date(row[field] as string);
  }
  return row as CouponRow;
}
