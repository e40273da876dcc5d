import { create } from "@bufbuild/protobuf";
import {
  type ListUserCouponsRequest,
  ListUserCouponsResponseSchema,
} from "../../../gen/coupon/v1/user_coupon_service_pb.js";
import type { CallContext } from "../../domain/call-context.js";
import { Refusal } from "../../domain/refusal.js";
import type { UsageStore, UserCouponStore } from "../../storage/ports.js";
import { usageMessage, userCouponMessage } from "../message.js";
import { nextPageToken, readPage } from "../page-token.js";
import { maxUsages } from "./get-user-coupon.js";

export function listUserCoupons(store: UserCouponStore, usages: UsageStore) {
  return async (request: ListUserCouponsRequest, context: CallContext) => {
    const { userId, showExpired, showUsages } = request;
    const parameters = ["ListUserCoupons", userId, showExpired, showUsages];
    const page = readPage(request, parameters);
    if (page instanceof Refusal) return page;
    const { rows, hasMore, now } = await store.list(userId, page, showExpired, context.deadlineMs);
    const messages = rows.map(({ userCoupon, coupon }) => userCouponMessage(userCoupon, coupon, now));
    const used = rows.filter(({ userCoupon }) => userCoupon.placeCount > 0).map(({ userCoupon }) => userCoupon.id);
    if (showUsages && used.length > 0) {
      const byId = new Map(messages.map((message) => [message.id, message]));
      for (const usage of await usages.ofUserCoupons(userId, used, maxUsages, context.deadlineMs)) {
        byId.get(usage.userCouponId)?.usages.push(usageMessage(usage));
      }
    }
    const response = create(ListUserCouponsResponseSchema);
    response.userCoupons = messages;
    response.nextPageToken = nextPageToken(hasMore, rows.at(-1)?.userCoupon.id, parameters);
    return response;
  };
}
