import type { Answer, Choice, Order } from "./call.js";
import type { Discount, Usage, UserCoupon } from "./state.js";
import { sum, World } from "./world.js";

/** What speaks against an order, and what its coupons take off. */
export class Orders extends World {
  /**
   * The order as if each user coupon were named by its id. Of several with a code it is the one that can be used, the
   * earliest expiry first; a repeated call means the one that it meant before.
   */
  protected resolve<O extends Pick<Order, "userId" | "choices">>(order: O, requestId: string): O {
    const taken = new Set(order.choices.map(({ id }) => id));
    const choices = order.choices.map((choice): Choice => {
      if (choice.code === undefined) return choice;
      const numbers = this.findCodes(choice.code).map(({ number }) => number);
      const hasUsed = (one: UserCoupon) =>
        requestId !== "" &&
        this.state.usages.some((usage) => usage.userCouponId === one.id && usage.requestId === requestId);
      const { code } = choice;
      // What a request has used, it names for good.
      const isNamed = (one: UserCoupon) =>
        hasUsed(one)
          ? this.isNamed(code, one.code, one.couponId)
          : one.deletedAt === null && numbers.includes(one.codeNumber ?? 0);
      const carrying = this.state.userCoupons.filter(
        (one) => one.userId === order.userId && isNamed(one) && !taken.has(one.id),
      );
      const rank = (one: UserCoupon) => {
        const isLocked = this.isLocked(one) && one.lock.requestId === requestId;
        if (hasUsed(one)) return 0;
        if (requestId !== "" && isLocked) return 1;
        if (this.isLocked(one) && one.lock.version === choice.lockVersion) return 2;
        return this.againstOne(one, choice.lockVersion, "").length === 0 ? 3 : 4;
      };
      const [found] = carrying.sort(
        (a, b) => rank(a) - rank(b) || this.expiry(a) - this.expiry(b) || (a.id < b.id ? -1 : 1),
      );
      if (found) taken.add(found.id);
      return { ...choice, id: found?.id ?? "" };
    });
    return { ...order, choices };
  }

  /** The uses of earlier calls with the same order that stand. */
  protected standingOf({ userId, orderId }: Order): Usage[] {
    if (orderId === "") return [];
    return this.state.usages.filter(
      (one) => one.userId === userId && one.orderId === orderId && one.cancelledAt === null,
    );
  }

  protected isStackable(userCouponId: string): boolean {
    const one = this.state.userCoupons.find(({ id }) => id === userCouponId);
    return one !== undefined && this.coupon(one.couponId).stackable;
  }

  /** Whether a code names nothing but what other choices name. */
  protected isTakenTwice(asked: Pick<Order, "userId" | "choices">, resolved: Pick<Order, "choices">): boolean {
    return asked.choices.some(({ code }, index) => {
      if (code === undefined || resolved.choices[index]?.id !== "") return false;
      const numbers = this.findCodes(code).map(({ number }) => number);
      return this.state.userCoupons.some(
        (one) => one.userId === asked.userId && one.deletedAt === null && numbers.includes(one.codeNumber ?? 0),
      );
    });
  }

  /** Whether a user coupon, or a code as it is written, is named twice. */
  protected isNamedTwice(choices: readonly Choice[]): boolean {
    const names = choices.map(({ id, code }) => code ?? id);
    return new Set(names).size < names.length;
  }

  /** What speaks against a user coupon by itself. */
  protected againstOne(one: UserCoupon, lockVersion: number, lockRequestId: string): string[] {
    const coupon = this.coupon(one.couponId);
    const uses = this.standing(one).length;
    const locked = this.isLocked(one);
    const own =
      locked && (lockVersion === one.lock.version || (lockRequestId !== "" && lockRequestId === one.lock.requestId));
    const rules: [string, boolean][] = [
      ["USER_COUPON_RELEASED", this.isReleased(one)],
      ["ALREADY_USED", uses >= one.maxUses],
      ["USER_COUPON_REVOKED", coupon.revokedAt !== null],
      ["USAGE_CAP_REACHED", coupon.exhaustedAt !== null && one.places === uses],
      ["USER_COUPON_EXPIRED", this.expiry(one) <= this.state.now],
      ["LOCKED", locked && !own && lockVersion === 0],
      ["LOCK_LOST", !own && lockVersion !== 0],
    ];
    return rules.filter(([, applies]) => applies).map(([reason]) => reason);
  }

  /** Every reason against each choice. */
  protected againstEach(order: Order, lockRequestId: string): string[][] {
    const { userId, choices, amount } = order;
    const standing = this.standingOf(order);
    const isAlone = choices.length === 1 && standing.length === 0;
    const standsAlone = standing.some(({ userCouponId }) => !this.isStackable(userCouponId));
    const isOther = ({ amount: told }: Usage) => told.units !== amount?.units || told.currency !== amount.currency;
    return choices.map((choice) => {
      const one = this.held(userId, choice.id);
      if (!one) return [choice.code === undefined ? "USER_COUPON_NOT_FOUND" : "CODE_NOT_FOUND"];
      const coupon = this.coupon(one.couponId);
      const { currency, minimum } = this.discountOf(one);
      const mismatch = amount !== null && currency !== null && currency !== amount.currency;
      const rules: [string, boolean][] = [
        ["NOT_STACKABLE", standsAlone || (!isAlone && !coupon.stackable)],
        ["ORDER_MISMATCH", amount !== null && standing.some(isOther)],
        ["CURRENCY_MISMATCH", mismatch],
        ["MINIMUM_ORDER_NOT_REACHED", amount !== null && !mismatch && amount.units < (minimum ?? 0)],
      ];
      const others = rules.filter(([, applies]) => applies).map(([reason]) => reason);
      return [...this.againstOne(one, choice.lockVersion, lockRequestId), ...others];
    });
  }

  /** The same, and the usage cap counted over the whole order: places are given in the order of the choices. */
  protected against(order: Order, lockRequestId = ""): string[][] {
    const against = this.againstEach(order, lockRequestId);
    const wanted = new Map<string, number>();
    return against.map((reasons, index) => {
      const one = this.held(order.userId, order.choices[index]?.id ?? "");
      if (!one || reasons.length > 0 || one.places > this.standing(one).length) return reasons;
      const count = (wanted.get(one.couponId) ?? 0) + 1;
      wanted.set(one.couponId, count);
      return count > this.placesLeft(this.coupon(one.couponId)) ? ["USAGE_CAP_REACHED"] : [];
    });
  }

  protected refusal(order: Order, against: string[][]): Answer | null {
    const all = against.flat();
    if (all.length === 0) return null;
    // What this very call has locked before is not in its way.
    const inTheWay = order.choices.filter((_, index) => against[index]?.includes("LOCKED"));
    const ends = inTheWay.map(({ id }) => this.held(order.userId, id)?.lock.until ?? 0);
    const retryMs = Math.max(...ends) - this.state.now;
    return { refused: all[0] as string, against, ...(all.every((one) => one === "LOCKED") && { retryMs }) };
  }

  /** What each choice takes off; those with a reason against them nothing. */
  protected discounts(order: Order, against: string[][]): number[] {
    const { userId, choices, amount } = order;
    let left = (amount?.units ?? 0) - this.takenBefore(order);
    const taken = choices.map(() => 0);
    const applied = choices
      .map(({ id }, index) => ({ id, index, discount: this.couponDiscount(userId, id) }))
      .filter(({ index }) => against[index]?.length === 0)
      .sort((a, b) => {
        if (a.discount.kind !== b.discount.kind) return a.discount.kind === "percentage" ? -1 : 1;
        return b.discount.value - a.discount.value || (a.id < b.id ? -1 : 1);
      });
    for (const { index, discount } of applied) {
      const share = discount.kind === "fixed" ? discount.value : Math.floor((left * discount.value) / 10_000);
      taken[index] = Math.min(share, left, discount.maximum ?? share);
      left -= taken[index];
    }
    return taken;
  }

  /** What stands takes off: of an order that is asked for with a smaller amount, no more than all of it. */
  protected takenBefore(order: Order): number {
    const taken = sum(this.standingOf(order).map(({ discount }) => discount));
    return Math.min(taken, order.amount?.units ?? 0);
  }

  protected couponDiscount(userId: string, id: string): Discount {
    const one = this.held(userId, id);
    return one ? this.discountOf(one) : { kind: "fixed", value: 0, currency: null, maximum: null, minimum: null };
  }

  protected quote(asked: Order): Answer {
    if (this.isNamedTwice(asked.choices)) return { refused: "INVALID_FIELD" };
    const order = this.resolve(asked, "");
    if (this.isTakenTwice(asked, order)) return { refused: "INVALID_FIELD" };
    const against = this.against(order);
    const discounts = this.discounts(order, against);
    const total = sum(discounts);
    const usable = against.flat().length === 0;
    const coupons = order.choices.map(({ id }) => this.held(order.userId, id)?.couponId ?? "");
    return {
      coupons,
      objections: against,
      discounts,
      total,
      final: this.finalOf(order, this.takenBefore(order) + total),
      usable,
    };
  }

  protected finalOf({ amount }: Order, taken: number): number {
    return (amount?.units ?? 0) - taken;
  }
}
