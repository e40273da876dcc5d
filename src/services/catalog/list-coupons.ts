import { create } from "@bufbuild/protobuf";
import { type ListCouponsRequest, ListCouponsResponseSchema } from "../../../gen/coupon/v1/catalog_service_pb.js";
import type { CallContext } from "../../domain/call-context.js";
import { Refusal } from "../../domain/refusal.js";
import type { CouponStore } from "../../storage/ports/coupons.js";
import { couponMessage } from "../message.js";
import { nextPageToken, readPage } from "../page-token.js";

export function listCoupons(store: CouponStore) {
  return async (request: ListCouponsRequest, context: CallContext) => {
    const parameters = ["ListCoupons", request.showDeleted];
    const page = readPage(request, parameters);
    if (page instanceof Refusal) return page;
    const { rows, next, now } = await store.list(page, request.showDeleted, context.deadlineMs);
    return create(ListCouponsResponseSchema, {
      coupons: rows.map((coupon) => couponMessage(coupon, now)),
      nextPageToken: nextPageToken(next, parameters),
    });
  };
}
