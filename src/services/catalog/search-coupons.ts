import { create } from "@bufbuild/protobuf";
import {
  DiscountKind,
  type SearchCouponsRequest,
  SearchCouponsResponseSchema,
} from "../../../gen/coupon/v1/catalog_service_pb.js";
import type { CallContext } from "../../domain/call-context.js";
import { type FieldViolation, invalid, Refusal } from "../../domain/refusal.js";
import type { CouponQuery, SearchCursor, SearchStore } from "../../storage/ports/search.js";
import { couponMessage, typeOf } from "../message.js";
import { nextPageToken, readPage, wrongInPage } from "../page-token.js";

const defaultPageSize = 20;
const discountKinds = {
  [DiscountKind.UNSPECIFIED]: null,
  [DiscountKind.PERCENTAGE]: "PERCENTAGE",
  [DiscountKind.FIXED_AMOUNT]: "FIXED_AMOUNT",
} as const;

export function searchCoupons(store: SearchStore) {
  return async (request: SearchCouponsRequest, context: CallContext) => {
    const wrong = wrongInSearch(request);
    if (wrong.length > 0) return invalid(...wrong);
    const query: CouponQuery = {
      words: request.query,
      category: request.category,
      type: typeOf(request.type),
      discountKind: discountKinds[request.discountKind],
      withEnded: request.showEnded,
    };
    const parameters = ["SearchCoupons", query];
    const page = readPage(request, parameters, "cursor", defaultPageSize);
    if (page instanceof Refusal) return page;
    const { rows, next, correctedQuery, now } = await store.search(
      query,
      { size: page.size, after: page.before === null ? null : cursorOf(page.before) },
      context.deadlineMs,
    );
    return create(SearchCouponsResponseSchema, {
      coupons: rows.map((coupon) => couponMessage(coupon, now)),
      nextPageToken: nextPageToken(next && `${next.tier}.${next.couponId}`, parameters),
      correctedQuery,
    });
  };
}

export function wrongInSearch(request: SearchCouponsRequest): FieldViolation[] {
  const withNul = (["query", "category"] as const).filter((field) => request[field].includes("\0"));
  return [
    ...withNul.map((field) => ({ field, description: "must not contain a NUL character" })),
    ...wrongInPage("cursor")(request),
  ];
}

function cursorOf(text: string): SearchCursor {
  return { tier: Number(text[0]), couponId: text.slice(2) };
}
