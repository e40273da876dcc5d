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
import { type Answer, type Call, type ListCall, namesOfItems } from "./call.js";
import { codeView, jobView } from "./code-calls.js";
import { couponView, fullUserCouponView, usageView } from "./messages.js";
import type { Replica } from "./service.js";

/** Lists, gone through page by page. Nothing is decided here. */

/** Small, so that most lists have several. */
const pageSize = 3;

type Page = { readonly pageSize: number; readonly pageToken: string };
interface Listed {
  readonly items: readonly Answer[];
  readonly nextPageToken: string;
}

export async function list(replica: Replica, call: ListCall, context: CallContext): Promise<Answer | Refusal> {
  const items: Answer[] = [];
  for (let pageToken = ""; ; ) {
    const page = await read(replica, call, { pageSize, pageToken }, context);
    if (page instanceof Refusal) return page;
    items.push(...page.items);
    if (page.nextPageToken === "") return { [namesOfItems[call.method]]: items };
    pageToken = page.nextPageToken;
  }
}

/** One page of a list, and where it goes on. */
export async function onePage(
  replica: Replica,
  { list: call, size, token }: Call & { method: "page" },
  context: CallContext,
): Promise<Answer | Refusal> {
  const page = await read(replica, call, { pageSize: size, pageToken: token }, context);
  if (page instanceof Refusal) return page;
  return { items: page.items, isLast: page.nextPageToken === "", token: page.nextPageToken };
}

async function read(replica: Replica, call: ListCall, page: Page, context: CallContext): Promise<Listed | Refusal> {
  switch (call.method) {
    case "listCoupons": {
      const message = create(ListCouponsRequestSchema, { showDeleted: call.showDeleted, ...page });
      const answer = await replica.listCoupons(message, context);
      return listed(answer, ({ coupons }) => coupons.map(couponView));
    }
    case "searchCoupons": {
      const { query, category, showEnded, discountKind, type } = call;
      const kind = { percentage: DiscountKind.PERCENTAGE, fixed: DiscountKind.FIXED_AMOUNT };
      const message = create(SearchCouponsRequestSchema, {
        ...{ query, category, showEnded, ...page, type: CouponTypes[type ?? "UNSPECIFIED"] },
        discountKind: discountKind ? kind[discountKind] : DiscountKind.UNSPECIFIED,
      });
      const answer = await replica.searchCoupons(message, context);
      return listed(answer, ({ coupons }) => coupons.map(couponView));
    }
    case "listUserCoupons": {
      const { userId, showExpired, showUsages } = call;
      const statuses = call.statuses.map((status) => UserCouponStatus[status as "READY"]);
      const message = create(ListUserCouponsRequestSchema, { userId, showExpired, showUsages, statuses, ...page });
      const answer = await replica.listUserCoupons(message, context);
      return listed(answer, ({ userCoupons }) => userCoupons.map(fullUserCouponView));
    }
    case "listUsages": {
      const { method: _, ...wanted } = call;
      const answer = await replica.listUsages(create(ListUsagesRequestSchema, { ...wanted, ...page }), context);
      return listed(answer, ({ usages }) => usages.map(usageView));
    }
    case "listCodes": {
      const statuses = call.statuses.map((status) => CodeStatus[status as "FREE"]);
      const message = create(ListCodesRequestSchema, { couponId: call.couponId, statuses, ...page });
      return listed(await replica.listCodes(message, context), ({ codes }) => codes.map(codeView));
    }
    case "listJobs": {
      const states = call.states.map((state) => CodeJobState[state as "DONE"]);
      const message = create(ListCodeJobsRequestSchema, { couponId: call.couponId, states, ...page });
      return listed(await replica.listJobs(message, context), ({ jobs }) => jobs.map(jobView));
    }
  }
}

function listed<P extends { readonly nextPageToken: string }>(
  answer: P | Refusal,
  itemsOf: (page: P) => readonly Answer[],
): Listed | Refusal {
  if (answer instanceof Refusal) return answer;
  return { items: itemsOf(answer), nextPageToken: answer.nextPageToken };
}
