import type { DescMethodUnary } from "@bufbuild/protobuf";
import { CatalogService } from "../../gen/coupon/v1/catalog_service_pb.js";
import { IssuanceService } from "../../gen/coupon/v1/issuance_service_pb.js";
import { type CallKind, callKindOf } from "./overload/call-kind.js";
import type { Invoke } from "./pipeline.js";
import "./text-encoding.js";

/** The largest message of an ordinary call. */
const ordinaryMessageBytes = 64 * 1024;
/** Of a call with 1,000 users. */
const usersMessageBytes = 1024 * 1024;
/** Of a call with 1,000 coupons or 50,000 codes. */
const bulkMessageBytes = 8 * 1024 * 1024;

const larger: ReadonlyMap<DescMethodUnary, number> = new Map<DescMethodUnary, number>([
  [CatalogService.method.uploadCodes, bulkMessageBytes],
  [CatalogService.method.batchCreateCoupons, bulkMessageBytes],
  [IssuanceService.method.batchIssueCoupons, usersMessageBytes],
]);

/** One RPC, ready to be served by any front end. */
export interface Route {
  readonly method: DescMethodUnary;
  /** As it is after decompression; a longer one is refused with MESSAGE_TOO_LARGE before it is decoded. */
  readonly maxMessageBytes: number;
  /** When it is shed. */
  readonly kind: CallKind;
  readonly invoke: Invoke;
}

export function routeOf(method: DescMethodUnary, invoke: Invoke): Route {
  return { method, maxMessageBytes: larger.get(method) ?? ordinaryMessageBytes, kind: callKindOf(method), invoke };
}
