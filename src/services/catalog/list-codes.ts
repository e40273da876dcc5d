import { create } from "@bufbuild/protobuf";
import { type ListCodesRequest, ListCodesResponseSchema } from "../../../gen/coupon/v1/catalog_service_pb.js";
import { type Code as CodeMessage, CodeStatus } from "../../../gen/coupon/v1/code_pb.js";
import { UserCouponStatus } from "../../../gen/coupon/v1/user_coupon_pb.js";
import type { CallContext } from "../../domain/call-context.js";
import { codeStatus, type CodeStatus as Status } from "../../domain/code.js";
import type { Coupon } from "../../domain/coupon.js";
import { Refusal } from "../../domain/refusal.js";
import { userCouponStatus } from "../../domain/user-coupon.js";
import type { CodeStore, ListedCode } from "../../storage/ports/codes.js";
import type { CouponStore } from "../../storage/ports/coupons.js";
import { termsMessage } from "../codes/code-terms.js";
import { timestampMessage } from "../message.js";
import { nextPageToken, readPage } from "../page-token.js";

export function listCodes(codes: CodeStore, coupons: Pick<CouponStore, "get">) {
  return async (request: ListCodesRequest, context: CallContext) => {
    const couponId = request.couponId.toLowerCase();
    const statuses = request.statuses.map((status) => CodeStatus[status] as Status).sort();
    const parameters = ["ListCodes", couponId, ...statuses];
    const page = readPage(request, parameters, "number");
    if (page instanceof Refusal) return page;
    const book = await coupons.get(couponId, context.deadlineMs);
    if (!book || book.value.deletedAt) return new Refusal("COUPON_NOT_FOUND");
    if (!book.value.codeBook) return new Refusal("NOT_A_CODE_BOOK");
    const filter = {
      couponId,
      statuses: statuses.length > 0 ? statuses : null,
      endsAt: book.value.expiresAt,
      now: book.now,
    };
    const { rows, next } = await codes.list(filter, page, context.deadlineMs);
    return create(ListCodesResponseSchema, {
      codes: rows.map((row) => codeMessage(row, book.value, book.now)),
      nextPageToken: nextPageToken(next, parameters),
    });
  };
}

function codeMessage({ code, holders }: ListedCode, book: Coupon, now: Date): CodeMessage {
  return {
    $typeName: "coupon.v1.Code",
    code: code.code,
    couponId: code.couponId,
    terms: termsMessage(code),
    status: CodeStatus[codeStatus(code, book, now)],
    holderCount: code.holderCount,
    holders: holders.map((holder) => ({
      $typeName: "coupon.v1.CodeHolder",
      userId: holder.userId,
      userCouponId: holder.id,
      status: UserCouponStatus[userCouponStatus(holder, book, now)],
    })),
    createTime: timestampMessage(code.createdAt),
  };
}
