import type { Usage, UseRefusal } from "../../../domain/usage.js";
import type { CancelRefusal, CancelResult, UseRequest, UseResult } from "../../ports/usages.js";
import { toUsage, type UsageRow } from "./usage-page.js";

export interface UseRow {
  readonly outcome: "USED" | "REPLAYED" | "CONFLICT" | "STALE" | "TOO_LATE" | "CONSENT" | UseRefusal;
  readonly id: string;
  readonly usedAtMs: number;
  readonly placed: boolean;
  readonly exhausted: boolean;
}

export interface LockRow {
  readonly outcome: "GRANTED" | "CONSENT" | UseRefusal;
  readonly version: number;
  readonly untilMs: number;
}

export interface CancelRow extends Omit<UsageRow, "usedAt" | "cancelledAt"> {
  readonly outcome: "CANCELLED" | "REPLAYED" | "CONFLICT" | CancelRefusal;
  readonly freed: boolean;
  readonly usedAtMs: number;
  readonly cancelledAtMs: number;
  /** See Usage. */
  readonly isComplete: boolean;
}

export function toUseResult(row: UseRow, request: UseRequest): UseResult {
  switch (row.outcome) {
    case "USED":
      return { outcome: "USED", usage: usageOf(request, row), placed: row.placed, exhausted: row.exhausted };
    case "REPLAYED":
    case "STALE":
    case "TOO_LATE":
    case "CONSENT":
      return { outcome: row.outcome };
    case "CONFLICT":
      throw new Error("a request id stayed in conflict");
    default:
      return { outcome: "REFUSED", reason: row.outcome };
  }
}

export function toCancelResult({
  outcome,
  freed,
  usedAtMs,
  cancelledAtMs,
  isComplete,
  ...row
}: CancelRow): CancelResult {
  if (outcome === "CONFLICT") throw new Error("a request id stayed in conflict");
  if (outcome !== "CANCELLED" && outcome !== "REPLAYED") return { outcome: "REFUSED", reason: outcome };
  return {
    outcome: "CANCELLED",
    usage: { ...toUsage({ ...row, usedAt: new Date(usedAtMs), cancelledAt: new Date(cancelledAtMs) }), isComplete },
    freed,
  };
}

function usageOf(request: UseRequest, row: UseRow): Usage {
  const {
    userCouponId,
    couponId,
    userId,
    productId,
    orderId,
    orderAmount,
    discountedBefore,
    facts,
    labels = null,
  } = request;
  const { currencyCode } = orderAmount;
  const discountAmount = { currencyCode, minorUnits: request.discountAmount };
  const usedAt = new Date(row.usedAtMs);
  return {
    id: row.id,
    userCouponId,
    couponId,
    userId,
    productId,
    orderId,
    orderAmount,
    discountAmount,
    discountedBefore,
    usedAt,
    cancelledAt: null,
    labels,
    isComplete: true,
    ...facts,
  };
}
