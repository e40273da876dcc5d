import { IssuanceService } from "../../gen/coupon/v1/issuance_service_pb.js";
import { expectOnly, type Row } from "../row.js";
import { createCoupon, issueMethod, issueRequests } from "./coupons.js";

export const soldOut: Row = {
  name: "soldOut",
  title: "IssueCoupon, refused as SOLD_OUT",
  async prepare({ api, sql, maxCalls }) {
    const couponId = await createCoupon(api, 1n);
    await api.call(IssuanceService.method.issueCoupon, {
      target: { case: "couponId", value: couponId },
      userId: "the one who was first",
    });
    return {
      method: issueMethod,
      messages: issueRequests(couponId, maxCalls),
      async verify(measured) {
        // ghz knows status codes only.
        expectOnly(measured, "SOLD_OUT", "FailedPrecondition");
        const [found] = await sql`SELECT issued_count::int AS issued FROM coupons WHERE id = ${couponId}`;
        if (found?.issued !== 1) throw new Error(`${found?.issued} coupons of one were issued.`);
      },
    };
  },
};
