import type { Answer, Call, Choice, Order } from "./call.js";
import { Orders } from "./orders.js";
import type { Money, Usage, UserCoupon } from "./state.js";
import { sum, usageView } from "./world.js";

/** Locks, uses and cancellations. */
export class Using extends Orders {
  /** What is locked for the same order by other calls. */
  private againstLocks(order: Order): string[][] {
    const others = this.state.userCoupons.filter(
      (one) =>
        one.userId === order.userId &&
        one.deletedAt === null &&
        this.isLocked(one) &&
        order.orderId !== "" &&
        one.lock.orderId === order.orderId &&
        !order.choices.some(({ id }) => id === one.id),
    );
    const standsAlone = others.some(({ id }) => !this.isStackable(id));
    return order.choices.map(({ id }) =>
      others.length > 0 && (standsAlone || !this.isStackable(id)) ? ["NOT_STACKABLE"] : [],
    );
  }

  /** `told`: the versions of new locks, which are the service's choice. */
  protected lock(asked: Order, requestId: string, told: Answer): Answer {
    if (this.isNamedTwice(asked.choices)) return { refused: "INVALID_FIELD" };
    const order = this.resolve(asked, requestId);
    if (this.isTakenTwice(asked, order)) return { refused: "INVALID_FIELD" };
    const refusal =
      this.refusal(order, this.against(order, requestId)) ?? this.refusal(order, this.againstLocks(order));
    if (refusal) return refusal;
    const { now } = this.state;
    const versions = new Map(
      ((told.locks ?? []) as { id: string; version: number }[]).map((one) => [one.id, one.version]),
    );
    const locks = order.choices.map(({ id }) => {
      const one = this.held(order.userId, id) as UserCoupon;
      const { lockMs } = this.coupon(one.couponId);
      const until = Math.min(now + lockMs, this.expiry(one), one.claimUntil ?? Number.POSITIVE_INFINITY);
      // A lock that is renewed stays the same one.
      const isRenewed = this.isLocked(one);
      const orderId = isRenewed && order.orderId === "" ? one.lock.orderId : order.orderId;
      const granted = isRenewed ? one.lock : { version: this.newVersion(one, versions.get(id) ?? 0), requestId };
      one.lock = { ...granted, until, orderId };
      this.happened("USER_COUPON_LOCKED", one.couponId, one.id, `${one.lock.version}`, `${until}`);
      return { id, version: one.lock.version, until };
    });
    return { locks };
  }

  /** It is greater than the user coupon's last, and no other one of the coupon has had it. */
  private newVersion(one: UserCoupon, told: number): number {
    const taken = this.state.lockVersions[one.couponId] ?? [];
    if (told <= one.lock.version || taken.includes(told)) return one.lock.version + 1;
    this.state.lockVersions[one.couponId] = [...taken, told];
    return told;
  }

  protected unlock(userId: string, asked: readonly Choice[]): Answer {
    if (this.isNamedTwice(asked)) return { refused: "INVALID_FIELD" };
    const { choices } = this.resolve({ userId, choices: asked }, "");
    if (this.isTakenTwice({ userId, choices: asked }, { choices })) return { refused: "INVALID_FIELD" };
    const held = choices.map(({ id }) => this.held(userId, id));
    if (held.includes(undefined)) return { refused: "USER_COUPON_NOT_FOUND" };
    const ended = (held as UserCoupon[]).filter(
      (one, index) => this.isLocked(one) && one.lock.version === choices[index]?.lockVersion,
    );
    for (const one of ended) {
      this.endLock(one);
      this.happened("USER_COUPON_UNLOCKED", one.couponId, one.id, `${one.lock.version}`);
    }
    return { unlocked: ended.map(({ id }) => id).sort() };
  }

  protected endLock(one: UserCoupon): void {
    one.lock = { version: one.lock.version, until: 0, requestId: "", orderId: "" };
  }

  protected use(asked: Order, requestId: string, ids: readonly string[]): Answer {
    if (this.isNamedTwice(asked.choices)) return { refused: "INVALID_FIELD" };
    const order = this.resolve(asked, requestId);
    if (this.isTakenTwice(asked, order)) return { refused: "INVALID_FIELD" };
    const earlier = this.state.usages.filter((usage) => requestId !== "" && usage.requestId === requestId);
    if (earlier.length > 0) {
      const inputOf = (one: Pick<Order, "userId" | "productId" | "orderId" | "amount" | "labels">, chosen: string[]) =>
        JSON.stringify([one.userId, one.productId, one.orderId, one.amount, one.labels ?? "", chosen]);
      const before = inputOf(
        earlier[0] as Usage,
        earlier.map(({ userCouponId }) => userCouponId),
      );
      if (
        before !==
        inputOf(
          order,
          order.choices.map(({ id }) => id),
        )
      )
        return { refused: "REQUEST_ID_REUSED" };
      return this.usedAnswer(order, earlier, true);
    }
    const against = this.against(order);
    const refusal = this.refusal(order, against);
    if (refusal) return refusal;
    const discounts = this.discounts(order, against);
    const before = this.takenBefore(order);
    const usages = order.choices.map((choice, index): Usage => {
      const { userId, productId, orderId, labels = "" } = order;
      const { code, couponId } = this.held(userId, choice.id) as UserCoupon;
      const { name: couponName, type: couponType } = this.coupon(couponId);
      const amount = order.amount as Money;
      const discount = discounts[index] ?? 0;
      const of = { labels, code, couponName, couponType };
      const common = {
        userCouponId: choice.id,
        couponId,
        userId,
        productId,
        orderId,
        amount,
        discount,
        before,
        requestId,
        ...of,
      };
      return { id: ids[index] ?? "?", ...common, usedAt: this.state.now, cancelledAt: null };
    });
    for (const usage of usages) this.spend(this.held(order.userId, usage.userCouponId) as UserCoupon, usage);
    return this.usedAnswer(order, usages, false);
  }

  private spend(one: UserCoupon, usage: Usage): void {
    this.state.usages.push(usage);
    this.happened("USER_COUPON_USED", one.couponId, one.id, usage.id);
    this.endLock(one);
    one.claimUntil = null;
    one.places = Math.max(one.places, this.standing(one).length);
    const coupon = this.coupon(one.couponId);
    if (coupon.exhaustedAt !== null || this.placesLeft(coupon) > 0) return;
    this.setCoupon(coupon.id, { exhaustedAt: this.state.now });
    this.happened("COUPON_EXHAUSTED", coupon.id);
  }

  private usedAnswer(order: Order, usages: readonly Usage[], replayed: boolean): Answer {
    const total = sum(usages.map(({ discount }) => discount));
    const final = this.finalOf(order, (usages[0]?.before ?? 0) + total);
    return { usages: usages.map(usageView), total, final, replayed };
  }

  protected cancel({ userId, usageId, userCouponId }: Call & { method: "cancel" }): Answer {
    const named = this.state.usages.filter(
      (one) => one.userId === userId && (one.id === usageId || one.userCouponId === userCouponId),
    );
    const standing = named.filter(({ cancelledAt }) => cancelledAt === null);
    if (standing.length > 1) return { refused: "SEVERAL_USAGES" };
    const usage = standing[0] ?? named[0];
    if (!usage) return { refused: "USAGE_NOT_FOUND" };
    if (usage.cancelledAt !== null) return { refused: "USAGE_ALREADY_CANCELLED" };
    usage.cancelledAt = this.state.now;
    const one = this.state.userCoupons.find(({ id }) => id === usage.userCouponId) as UserCoupon;
    // Nobody can come back to the place that a deleted one has kept.
    if (one.deletedAt !== null) one.places = this.standing(one).length;
    this.happened("USAGE_CANCELLED", one.couponId, one.id, usage.id);
    return usageView(usage);
  }
}
