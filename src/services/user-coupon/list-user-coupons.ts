import { create } from "@bufbuild/protobuf";
import { UserCouponStatus } from "../../../gen/coupon/v1/user_coupon_pb.js";
import {
  type ListUserCouponsRequest,
  type ListUserCouponsResponse,
  ListUserCouponsResponseSchema,
} from "../../../gen/coupon/v1/user_coupon_service_pb.js";
import type { CallContext } from "../../domain/call-context.js";
import { Refusal } from "../../domain/refusal.js";
import { presentStatuses, type UserCouponStatus as Status } from "../../domain/user-coupon.js";
import type { Listed } from "../../storage/ports/page.js";
import type { UsageStore } from "../../storage/ports/usages.js";
import type { UserCouponStore, UserCouponWithCoupon } from "../../storage/ports/user-coupons.js";
import { isCurrent, usageMessage, userCouponMessage } from "../message.js";
import { nextPageToken, readPage } from "../page-token.js";
import { maxUsages } from "./get-user-coupon.js";

export function listUserCoupons(store: UserCouponStore, usages: UsageStore) {
  return async (request: ListUserCouponsRequest, context: CallContext) => {
    const { userId, showExpired, showUsages } = request;
    const asked = request.statuses.map((status) => UserCouponStatus[status] as Status).sort();
    const parameters = ["ListUserCoupons", userId, showExpired, showUsages, ...asked];
    const page = readPage(request, parameters);
    if (page instanceof Refusal) return page;
    const statuses = asked.length > 0 ? asked : showExpired ? null : presentStatuses;
    const listed = await store.list(userId, page, statuses, context.deadlineMs);
    const { rows, next } = listed;
    const pageToken = nextPageToken(next, parameters);
    const used = showUsages ? rows.filter(({ userCoupon }) => userCoupon.placeCount > 0) : [];
    if (used.length === 0) return responseOf(listed, pageToken);

    const response = buildResponse(listed, pageToken);
    const byId = new Map(response.userCoupons.map((message) => [message.id, message]));
    const ids = used.map(({ userCoupon }) => userCoupon.id);
    for (const usage of await usages.ofUserCoupons(userId, ids, maxUsages, context.deadlineMs)) {
      byId.get(usage.userCouponId)?.usages.push(usageMessage(usage));
    }
    return response;
  };
}

type Rows = Listed<UserCouponWithCoupon>;

/** By the rows, which are the same array as long as nothing in them has changed; statuses change with the time as well. */
const responses = new WeakMap<Rows["rows"], ListUserCouponsResponse>();

function responseOf(listed: Rows, pageToken: string): ListUserCouponsResponse {
  const { rows, now } = listed;
  const known = responses.get(rows);
  if (known?.nextPageToken === pageToken && isCurrent(known.userCoupons, rows, now)) {
    // Only what is asked for again is worth it to keep its bytes.
    return Object.freeze(known);
  }
  const response = buildResponse(listed, pageToken);
  responses.set(rows, response);
  return response;
}

function buildResponse({ rows, now }: Rows, pageToken: string): ListUserCouponsResponse {
  const response = create(ListUserCouponsResponseSchema);
  response.userCoupons = rows.map(({ userCoupon, coupon }) => userCouponMessage(userCoupon, coupon, now));
  response.nextPageToken = pageToken;
  return response;
}
