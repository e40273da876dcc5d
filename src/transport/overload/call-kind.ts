import type { DescMethodUnary } from "@bufbuild/protobuf";
import { CatalogService } from "../../../gen/coupon/v1/catalog_service_pb.js";
import { IssuanceService } from "../../../gen/coupon/v1/issuance_service_pb.js";
import { UsageService } from "../../../gen/coupon/v1/usage_service_pb.js";
import type { CallKind } from "../../domain/caller-limits.js";

const { useCoupons, lockCoupons, cancelUsage, unlockCoupons } = UsageService.method;

const kinds: ReadonlyMap<DescMethodUnary, CallKind> = new Map<DescMethodUnary, CallKind>([
  ...Object.values(IssuanceService.method).map((method) => [method, "issue"] as const),
  [useCoupons, "use"],
  [lockCoupons, "use"],
  [cancelUsage, "undo"],
  [unlockCoupons, "undo"],
]);

export function callKindOf(method: DescMethodUnary): CallKind {
  return kinds.get(method) ?? "manage";
}

const { uploadCodes, deleteCodes, batchCreateCoupons, generateCodes, searchCoupons, getStats } = CatalogService.method;
const { batchIssueCoupons } = IssuanceService.method;
const bulk: ReadonlySet<DescMethodUnary> = new Set<DescMethodUnary>([
  uploadCodes,
  deleteCodes,
  batchCreateCoupons,
  generateCodes,
  searchCoupons,
  getStats,
  batchIssueCoupons,
]);

/** Whether what a call takes says something of how busy the service is, and not of how much was asked for. */
export function isOrdinary(method: DescMethodUnary): boolean {
  return !bulk.has(method);
}
