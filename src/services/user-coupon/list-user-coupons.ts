import { create } from "@bufbuild/protobuf";
import {
  type ListUserCouponsRequest,
  ListUserCouponsResponseSchema,
} from "../../../gen/coupon/v1/user_coupon_service_pb.js";
import type { CallContext } from "../../domain/call-context.js";
import { Refusal } from "../../domain/refusal.js";
import type { UserCouponStore } from "../../storage/ports.js";
import { userCouponMessage } from "../message.js";
import { nextPageToken, readPage } from "../page-token.js";

export function listUserCoupons(store: UserCouponStore) {
  return async (request: ListUserCouponsRequest, context: CallContext) => {
    const parameters = ["ListUserCoupons", request.userId, request.showExpired];
    const page = readPage(request, parameters);
    if (page instanceof Refusal) return page;
    const { rows, hasMore, now } = await store.list(request.userId, page, request.showExpired, context.deadlineMs);
    return create(ListUserCouponsResponseSchema, {
      userCoupons: rows.map(({ userCoupon, coupon }) => userCouponMessage(userCoupon, coupon, now)),
      nextPageToken: nextPageToken(hasMore, rows.at(-1)?.userCoupon.id, parameters),
    });
  };
}
