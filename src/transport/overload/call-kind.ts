import type { DescMethod } from "@bufbuild/protobuf";
import { CatalogService } from "../../../gen/coupon/v1/catalog_service_pb.js";
import { EventService } from "../../../gen/coupon/v1/event_service_pb.js";
import { IssuanceService } from "../../../gen/coupon/v1/issuance_service_pb.js";
import { UsageService } from "../../../gen/coupon/v1/usage_service_pb.js";
import type { CallKind } from "../../domain/caller-limits.js";

const { useCoupons, lockCoupons, cancelUsage, unlockCoupons } = UsageService.method;

const kinds: ReadonlyMap<DescMethod, CallKind> = new Map<DescMethod, CallKind>([
  ...Object.values(IssuanceService.method).map((method) => [method, "issue"] as const),
  [useCoupons, "use"],
  [lockCoupons, "use"],
  [cancelUsage, "undo"],
  [unlockCoupons, "undo"],
]);

export function callKindOf(method: DescMethod): CallKind {
  return kinds.get(method) ?? "manage";
}

const { uploadCodes, deleteCodes, batchCreateCoupons, generateCodes, searchCoupons, getStats } = CatalogService.method;
const { batchIssueCoupons } = IssuanceService.method;
const bulk: ReadonlySet<DescMethod> = new Set<DescMethod>([
  uploadCodes,
  deleteCodes,
  batchCreateCoupons,
  generateCodes,
  searchCoupons,
  getStats,
  batchIssueCoupons,
  // They wait for transactions of others.
  ...Object.values(EventService.method),
]);

/** Whether what a call takes says something of how busy the service is, and not of how much was asked for. */
export function isOrdinary(method: DescMethod): boolean {
  return !bulk.has(method);
}
