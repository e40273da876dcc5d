import type { Answer, Call, Expected } from "./call.js";
import { CodeJobs } from "./code-jobs.js";
import type { Code, Coupon, CouponType, UserCoupon } from "./state.js";

type IssueCall = Call & { method: "issue" };

/** What the service says that it made: which coupon of a type, which code of a book. */
export interface Made {
  readonly id: string;
  readonly code: string;
}

/** That a code is taken is not told to who may not read codes. */
function hidden(answer: Answer): Answer {
  return answer.refused === "CODE_TAKEN" ? { refused: "CODE_NOT_FOUND" } : answer;
}

/** Issues by coupon, by code and by type. */
export class Issuing extends CodeJobs {
  protected issue(call: IssueCall, made: Made): Expected {
    const { target, userId } = call;
    if ("type" in target) return this.issueByType(call, target.type, made);
    const code = "code" in target ? this.findCodes(target.code)[0] : undefined;
    const earlier = this.earlierIssue(call);
    const isGiven =
      earlier &&
      "code" in target &&
      earlier.userId === userId &&
      this.isNamed(target.code, earlier.code, earlier.couponId);
    if (!code && isGiven) return this.issuedBefore(earlier, call, true, []);
    if ("code" in target && !code) return { refused: "CODE_NOT_FOUND" };
    if (code && call.isBlind) {
      const { isBlind: _, ...seeing } = call;
      const isMine = this.state.userCoupons.some((one) => one.codeNumber === code.number && one.userId === userId);
      const isTaken = code.holders >= code.maxHolders;
      const answer = isTaken && !isMine ? { refused: "CODE_NOT_FOUND" } : this.issue(seeing, made);
      const { or = [], ...first } = answer;
      return { ...hidden(first), ...(or.length > 0 && { or: or.map(hidden) }) };
    }
    const coupon = this.coupon("couponId" in target ? target.couponId : (code as Code).couponId);
    const refused = this.refusals(coupon, userId, code);
    // Of the coupon that has the code now, the gate knows no such request.
    if (isGiven && earlier.codeNumber !== code?.number) {
      return { ...this.issuedBefore(earlier, call, true, []), or: refused.map((reason) => ({ refused: reason })) };
    }
    if (earlier) {
      const isSame = earlier.couponId === coupon.id && (!code || earlier.codeNumber === code.number);
      return this.issuedBefore(earlier, call, isSame, refused);
    }
    const [first, ...others] = refused;
    if (!first) return this.issueOne(coupon, call, made, code);
    return { refused: first, or: others.map((reason) => ({ refused: reason })) };
  }

  /** What may be answered instead of a user coupon. */
  private refusals(coupon: Coupon, userId: string, code?: Code): string[] {
    const reason = this.issueRefusal(coupon, userId, code);
    if (!reason) return [];
    // The gate knows nothing of codes, but that nothing is left of their coupon: so none of them is free.
    const isOut = reason === "CODE_EXPIRED" && this.freeSeats(coupon.id) === 0;
    if (isOut) return [reason, "CODE_TAKEN"];
    // Of quotas it may know less than was issued, since it was wiped, so that it says what comes after.
    const isSoldOut = reason === "QUOTA_REACHED" && this.quantityOf(coupon) === coupon.issuedCount;
    return isSoldOut ? [reason, code ? "CODE_TAKEN" : "SOLD_OUT"] : [reason];
  }

  private issueByType(call: IssueCall, type: CouponType, made: Made): Expected {
    const earlier = this.earlierIssue(call);
    if (earlier) {
      const coupon = this.coupon(earlier.couponId);
      return this.issuedBefore(earlier, call, coupon.type === type, this.refusals(coupon, call.userId));
    }
    let refused = "SOLD_OUT";
    for (const coupon of this.candidates(type)) {
      const reason = this.issueRefusal(coupon, call.userId);
      if (!reason) return this.issueOne(coupon, call, made);
      refused = reason;
    }
    return { refused };
  }

  /** The coupons of a type that can be issued, in the order in which they expire: a pool as what it issues next. */
  private candidates(type: CouponType): Coupon[] {
    const { now } = this.state;
    const endOf = (coupon: Coupon) =>
      coupon.isTypePool ? (this.pickable(coupon)[0]?.expiresAt ?? Number.POSITIVE_INFINITY) : coupon.expiresAt;
    const isOpen = (coupon: Coupon) =>
      coupon.type === type &&
      coupon.deletedAt === null &&
      coupon.pausedAt === null &&
      coupon.exhaustedAt === null &&
      coupon.startsAt <= now &&
      coupon.expiresAt > now &&
      coupon.issuedCount !== this.quantityOf(coupon) &&
      (!coupon.isTypePool || this.pickable(coupon).length > 0);
    return this.state.coupons.filter(isOpen).sort((a, b) => endOf(a) - endOf(b) || (a.id < b.id ? -1 : 1));
  }

  /** Every reason that one coupon, or code, has against being issued to a user is in this order; the first one counts. */
  issueRefusal(coupon: Coupon, userId: string, code?: Code): string | undefined {
    const { now } = this.state;
    if (coupon.deletedAt !== null) return "COUPON_NOT_FOUND";
    if (coupon.pausedAt !== null) return "COUPON_PAUSED";
    if (now < coupon.startsAt) return "COUPON_NOT_STARTED";
    if (now >= coupon.expiresAt) return "COUPON_ENDED";
    if (coupon.exhaustedAt !== null) return "USAGE_CAP_REACHED";
    if (this.liveCount(coupon.id, userId) >= coupon.maxPerUser) return "ALREADY_ISSUED";
    if (coupon.quota && this.issuedToday(coupon, userId) >= coupon.quota.maxPerDay) return "QUOTA_REACHED";
    if (code) {
      if (this.isExpiredCode(code)) return "CODE_EXPIRED";
      return code.holders >= code.maxHolders ? "CODE_TAKEN" : undefined;
    }
    const isOut = coupon.book === null ? coupon.issuedCount === coupon.quantity : this.pickable(coupon).length === 0;
    return isOut ? "SOLD_OUT" : undefined;
  }

  private earlierIssue({ requestId }: IssueCall): UserCoupon | undefined {
    return this.state.userCoupons.find((one) => requestId !== "" && one.requestId === requestId);
  }

  /** A request id that is known never issues again. Of the caller's own, nothing else is said, whatever has become of it. */
  private issuedBefore(earlier: UserCoupon, call: IssueCall, isSame: boolean, refused: readonly string[]): Expected {
    const labels = call.labels ?? "";
    const mine = isSame && earlier.userId === call.userId;
    if (!mine) return { refused: "REQUEST_ID_REUSED", or: refused.map((reason) => ({ refused: reason })) };
    if (earlier.deletedAt !== null) return { refused: "USER_COUPON_NOT_FOUND" };
    if (earlier.labels !== labels) return { refused: "REQUEST_ID_REUSED" };
    return { replayed: true, ...this.userCouponView(earlier, false) };
  }

  private issueOne(coupon: Coupon, call: IssueCall, made: Made, wanted?: Code): Answer {
    const { id: couponId, validityMs, claimMs, issuedCount } = coupon;
    const { now } = this.state;
    const free = this.pickable(coupon);
    // Of several it is the service's choice.
    const code = wanted ?? free.find((one) => one.code === made.code) ?? free[0];
    const ends = [validityMs === null ? null : now + validityMs, code?.expiresAt ?? null].filter((end) => end !== null);
    const issued: UserCoupon = {
      id: made.id,
      labels: call.labels ?? "",
      couponId,
      userId: call.userId,
      requestId: call.requestId,
      issuedAt: now,
      codeNumber: code?.number ?? null,
      code: code?.code ?? null,
      discount: code?.discount ?? null,
      validUntil: ends.length > 0 ? Math.min(...ends) : null,
      maxUses: code?.maxUses ?? coupon.maxUses,
      places: 0,
      claimUntil: claimMs === null ? null : now + claimMs,
      releasedAt: null,
      deletedAt: null,
      countedExpired: false,
      endedAt: null,
      lock: { version: 0, until: 0, requestId: "", orderId: "" },
    };
    this.state.userCoupons.push(issued);
    if (code) code.holders += 1;
    this.setCoupon(couponId, { issuedCount: issuedCount + 1 });
    if (coupon.quota)
      this.state.issuedOnDay[this.quotaKey(coupon, call.userId)] = this.issuedToday(coupon, call.userId) + 1;
    this.happened("USER_COUPON_ISSUED", couponId, made.id);
    return { replayed: false, ...this.userCouponView(issued, false) };
  }
}
