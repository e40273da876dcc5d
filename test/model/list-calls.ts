import { create } from "@bufbuild/protobuf";
import {
  DiscountKind,
  ListCodeJobsRequestSchema,
  ListCodesRequestSchema,
  ListCouponsRequestSchema,
  SearchCouponsRequestSchema,
} from "../../gen/coupon/v1/catalog_service_pb.js";
import { CodeJobState, CodeStatus } from "../../gen/coupon/v1/code_pb.js";
import { CouponType as CouponTypes } from "../../gen/coupon/v1/coupon_pb.js";
import { ListUsagesRequestSchema } from "../../gen/coupon/v1/usage_service_pb.js";
import { UserCouponStatus } from "../../gen/coupon/v1/user_coupon_pb.js";
import { ListUserCouponsRequestSchema } from "../../gen/coupon/v1/user_coupon_service_pb.js";
import type { CallContext } from "../../src/domain/call-context.js";
import { Refusal } from "../../src/domain/refusal.js";
import type { Answer, Call } from "./call.js";
import { codeView, jobView } from "./code-calls.js";
import { couponView, fullUserCouponView, usageView } from "./messages.js";
import type { Replica } from "./service.js";

/** Lists, gone through page by page. Nothing is decided here. */

/** Small, so that most lists have several. */
const pageSize = 3;

type ListCall = Call & { method: `list${string}` | "searchCoupons" };
type Paged = { readonly nextPageToken: string };

export async function list(replica: Replica, call: ListCall, context: CallContext): Promise<Answer | Refusal> {
  switch (call.method) {
    case "listCoupons": {
      const message = create(ListCouponsRequestSchema, { showDeleted: call.showDeleted, pageSize });
      const pages = await allPages((pageToken) => replica.listCoupons({ ...message, pageToken }, context));
      return pages instanceof Refusal ? pages : { coupons: pages.flatMap(({ coupons }) => coupons.map(couponView)) };
    }
    case "searchCoupons": {
      const { query, category, showEnded, discountKind, type } = call;
      const kind = { percentage: DiscountKind.PERCENTAGE, fixed: DiscountKind.FIXED_AMOUNT };
      const message = create(SearchCouponsRequestSchema, {
        ...{ query, category, showEnded, pageSize, type: CouponTypes[type ?? "UNSPECIFIED"] },
        discountKind: discountKind ? kind[discountKind] : DiscountKind.UNSPECIFIED,
      });
      const pages = await allPages((pageToken) => replica.searchCoupons({ ...message, pageToken }, context));
      return pages instanceof Refusal ? pages : { coupons: pages.flatMap(({ coupons }) => coupons.map(couponView)) };
    }
    case "listUserCoupons": {
      const { userId, showExpired, showUsages } = call;
      const statuses = call.statuses.map((status) => UserCouponStatus[status as "READY"]);
      const message = create(ListUserCouponsRequestSchema, {
        userId,
        showExpired,
        showUsages,
        statuses,
        pageSize,
      });
      const pages = await allPages((pageToken) => replica.listUserCoupons({ ...message, pageToken }, context));
      if (pages instanceof Refusal) return pages;
      return { userCoupons: pages.flatMap(({ userCoupons }) => userCoupons.map(fullUserCouponView)) };
    }
    case "listUsages": {
      const { method: _, ...wanted } = call;
      const message = create(ListUsagesRequestSchema, { ...wanted, pageSize });
      const pages = await allPages((pageToken) => replica.listUsages({ ...message, pageToken }, context));
      return pages instanceof Refusal ? pages : { usages: pages.flatMap(({ usages }) => usages.map(usageView)) };
    }
    case "listCodes": {
      const statuses = call.statuses.map((status) => CodeStatus[status as "FREE"]);
      const message = create(ListCodesRequestSchema, { couponId: call.couponId, statuses, pageSize });
      const pages = await allPages((pageToken) => replica.listCodes({ ...message, pageToken }, context));
      return pages instanceof Refusal ? pages : { codes: pages.flatMap(({ codes }) => codes.map(codeView)) };
    }
    case "listJobs": {
      const states = call.states.map((state) => CodeJobState[state as "DONE"]);
      const message = create(ListCodeJobsRequestSchema, { couponId: call.couponId, states, pageSize });
      const pages = await allPages((pageToken) => replica.listJobs({ ...message, pageToken }, context));
      return pages instanceof Refusal ? pages : { jobs: pages.flatMap(({ jobs }) => jobs.map(jobView)) };
    }
  }
}

async function allPages<P extends Paged>(read: (pageToken: string) => Promise<P | Refusal>): Promise<P[] | Refusal> {
  const pages: P[] = [];
  for (let pageToken = ""; ; ) {
    const page = await read(pageToken);
    if (page instanceof Refusal) return page;
    pages.push(page);
    if (page.nextPageToken === "") return pages;
    pageToken = page.nextPageToken;
  }
}
