import { sameLabels } from "../domain/labels.js";
import { type Refusal, requestIdReused } from "../domain/refusal.js";
import { expiryOf, userCouponStatus } from "../domain/user-coupon.js";
import type { IssueRequest } from "../storage/ports/issues.js";
import type { DeadlineMs } from "../storage/ports/page.js";
import type { UserCouponStore } from "../storage/ports/user-coupons.js";
import type { Issued } from "./issuer.js";

/** What a repeated request gets, as it is now. null: the user coupon is not there any more, or was issued to another request. */
export async function readReplay(
  userCoupons: Pick<UserCouponStore, "get">,
  request: IssueRequest,
  userCouponId: string,
  deadlineMs: DeadlineMs,
): Promise<Issued | Refusal | null> {
  const found = await userCoupons.get(request.userId, userCouponId, deadlineMs);
  // The gate knows no more of a request than a hash.
  if (!found || found.value.requestId !== request.requestId) return null;
  const { userCoupon, coupon } = found.value;
  const isOther = request.type !== undefined && request.type !== coupon.type;
  if (isOther || !sameLabels(userCoupon.labels, request.labels ?? null)) return requestIdReused();
  return {
    userCoupon,
    expiresAt: expiryOf(userCoupon, coupon),
    status: userCouponStatus(userCoupon, coupon, found.now),
    replayed: true,
  };
}
