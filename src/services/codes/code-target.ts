import type { UploadCodesRequest } from "../../../gen/coupon/v1/catalog_service_pb.js";
import type { CouponType } from "../../domain/coupon.js";
import type { CodeTarget } from "../../storage/ports/codes.js";
import { typeOf } from "../message.js";

/** Where codes belong; that it is set has been checked. */
export function targetOf(target: UploadCodesRequest["target"]): CodeTarget {
  if (target.case === "type") return { type: typeOf(target.value) as CouponType };
  return { couponId: (target.value ?? "").toLowerCase() };
}
