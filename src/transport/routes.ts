import type { DescField, DescMethodServerStreaming, DescMethodUnary } from "@bufbuild/protobuf";
import {
  BatchCreateCouponsRequestSchema,
  CatalogService,
  UploadCodesRequestSchema,
} from "../../gen/coupon/v1/catalog_service_pb.js";
import { BatchIssueCouponsRequestSchema, IssuanceService } from "../../gen/coupon/v1/issuance_service_pb.js";
import type { CallKind } from "../domain/caller-limits.js";
import type { Bulk, MessageBounds } from "./messages/message-bounds.js";
import { callKindOf } from "./overload/call-kind.js";
import type { Invoke } from "./pipeline.js";
import "./messages/text-encoding.js";

/** The largest message of an ordinary call. */
const ordinaryMessageBytes = 64 * 1024;
/** Of a call with 1,000 users. */
const usersMessageBytes = 1024 * 1024;
/** Of a call with 1,000 coupons or 50,000 codes. */
const bulkMessageBytes = 8 * 1024 * 1024;

/** What is served: calls with one answer, and with a stream of them. */
export type ServedMethod = DescMethodUnary | DescMethodServerStreaming;

interface Larger {
  readonly maxMessageBytes: number;
  readonly list: DescField;
  readonly maxPartsOfItem: number;
}

/** The most that one item of the list can need, if each of its fields is set, is 20, 114 and 1. */
const larger: ReadonlyMap<ServedMethod, Larger> = new Map<ServedMethod, Larger>([
  [
    CatalogService.method.uploadCodes,
    { maxMessageBytes: bulkMessageBytes, list: UploadCodesRequestSchema.field.lines, maxPartsOfItem: 32 },
  ],
  [
    CatalogService.method.batchCreateCoupons,
    { maxMessageBytes: bulkMessageBytes, list: BatchCreateCouponsRequestSchema.field.coupons, maxPartsOfItem: 128 },
  ],
  [
    IssuanceService.method.batchIssueCoupons,
    { maxMessageBytes: usersMessageBytes, list: BatchIssueCouponsRequestSchema.field.userIds, maxPartsOfItem: 1 },
  ],
]);

/** One RPC, ready to be served by any front end. */
export interface Route extends MessageBounds {
  readonly method: ServedMethod;
  /** When it is shed. */
  readonly kind: CallKind;
  readonly invoke: Invoke;
}

export function routeOf(method: ServedMethod, invoke: Invoke): Route {
  return { method, ...boundsOf(method), kind: callKindOf(method), invoke };
}

export function boundsOf(method: ServedMethod): MessageBounds {
  const { maxMessageBytes, list, maxPartsOfItem } = larger.get(method) ?? {};
  if (maxMessageBytes === undefined) return { maxMessageBytes: ordinaryMessageBytes };
  return { maxMessageBytes, bulk: { field: list as Bulk["field"], maxPartsOfItem: maxPartsOfItem as number } };
}
