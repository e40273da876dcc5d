import type {
  Answer,
  Call,
  Choice,
  Coupon,
  Definition,
  Discount,
  Expected,
  Money,
  Order,
  State,
  Usage,
  UserCoupon,
} from "./state.js";

/**
 * What the service must answer, in a few rules. They are taken from the comments of the proto files and call nothing of
 * src/: the model is what src/ is held against.
 */
export class Model {
  constructor(readonly state: State) {}

  static at(now: number): Model {
    return new Model({ now, coupons: [], userCoupons: [], usages: [], answered: {}, events: [] });
  }

  clone(): Model {
    return new Model(structuredClone(this.state));
  }

  /** The right answer, after which the state is what it must be. `made`: the ids of what the service made. */
  apply(call: Call, made: readonly string[]): Expected {
    switch (call.method) {
      case "create":
        return this.once(call, () => this.create(call.definition, made[0] ?? "?"));
      case "update":
        return this.once(call, () =>
          this.changeCoupon(call.couponId, call.revision, (it) => this.edit(it, call.change)),
        );
      case "pause":
      case "resume":
        return this.once(call, () =>
          this.changeCoupon(call.couponId, 0, ({ pausedAt }) => {
            if ((call.method === "pause") === (pausedAt !== null)) return null;
            this.happened(`COUPON_${call.method.toUpperCase()}D`, call.couponId);
            return { pausedAt: call.method === "pause" ? this.state.now : null };
          }),
        );
      case "delete":
        return this.once(call, () =>
          this.changeCoupon(call.couponId, 0, () => {
            this.happened("COUPON_DELETED", call.couponId);
            return { deletedAt: this.state.now, revokedAt: call.revoke ? this.state.now : null };
          }),
        );
      case "getCoupon":
        return this.couponView(this.coupon(call.couponId));
      case "issue":
        return this.issue(call, made[0] ?? "?");
      case "quote":
        return this.quote(call.order);
      case "lock":
        return this.lock(call.order, call.requestId);
      case "unlock":
        return this.unlock(call.userId, call.choices);
      case "use":
        return this.use(call.order, call.requestId, made);
      case "cancel":
        return this.once(call, () => this.cancel(call.userId, call.usageId));
      case "deleteUserCoupon":
        return this.once(call, () => this.deleteUserCoupon(call));
      case "getUserCoupon": {
        const one = this.held(call.userId, call.userCouponId);
        return one ? this.userCouponView(one, true) : { refused: "USER_COUPON_NOT_FOUND" };
      }
      case "listUserCoupons": {
        const held = this.state.userCoupons.filter((one) => one.userId === call.userId && one.deletedAt === null);
        const hidden = (one: UserCoupon) => ["EXPIRED", "RELEASED"].includes(this.status(one));
        const shown = held.filter((one) => call.showExpired || !hidden(one));
        return { userCoupons: newestFirst(shown).map((one) => this.userCouponView(one, true)) };
      }
      case "listUsages": {
        const own = this.state.usages.filter(({ userId }) => userId === call.userId);
        return {
          usages: newestFirst(own.filter((one) => call.showCancelled || one.cancelledAt === null)).map(usageView),
        };
      }
      case "release":
        this.release();
        return {};
    }
  }

  // What things are.

  coupon(id: string): Coupon {
    return this.state.coupons.find((one) => one.id === id) as Coupon;
  }

  /** The user coupon that a user holds under this id. */
  held(userId: string, id: string): UserCoupon | undefined {
    return this.state.userCoupons.find((one) => one.id === id && one.userId === userId && one.deletedAt === null);
  }

  standing(one: UserCoupon): Usage[] {
    return this.state.usages.filter((usage) => usage.userCouponId === one.id && usage.cancelledAt === null);
  }

  placesTaken(coupon: Coupon): number {
    return this.state.userCoupons.filter((one) => one.couponId === coupon.id).reduce((sum, one) => sum + one.places, 0);
  }

  placesLeft(coupon: Coupon): number {
    return coupon.usageCap === null ? Number.POSITIVE_INFINITY : coupon.usageCap - this.placesTaken(coupon);
  }

  isLocked(one: UserCoupon): boolean {
    return one.lock.until > this.state.now;
  }

  /** Whether it counts against what its user may hold. */
  isLive(one: UserCoupon): boolean {
    const { deletedAt, releasedAt, validUntil } = one;
    return deletedAt === null && releasedAt === null && (validUntil === null || validUntil > this.state.now);
  }

  liveCount(couponId: string, userId: string): number {
    return this.state.userCoupons.filter(
      (one) => one.couponId === couponId && one.userId === userId && this.isLive(one),
    ).length;
  }

  private expiry(one: UserCoupon): number {
    return Math.min(one.validUntil ?? Number.POSITIVE_INFINITY, this.coupon(one.couponId).expiresAt);
  }

  private isReleased({ releasedAt, claimUntil, ...one }: UserCoupon): boolean {
    if (releasedAt !== null) return true;
    return (
      claimUntil !== null &&
      claimUntil <= this.state.now &&
      claimUntil < this.expiry({ releasedAt, claimUntil, ...one })
    );
  }

  status(one: UserCoupon): string {
    const { exhaustedAt, revokedAt } = this.coupon(one.couponId);
    const uses = this.standing(one).length;
    const noPlace = exhaustedAt !== null && one.places === uses;
    if (this.isReleased(one)) return "RELEASED";
    if (uses === one.maxUses || (noPlace && uses > 0)) return "USED";
    if (revokedAt !== null || noPlace) return "REVOKED";
    if (this.expiry(one) <= this.state.now) return "EXPIRED";
    return this.isLocked(one) ? "LOCKED" : "READY";
  }

  // Coupons.

  private create(definition: Definition, id: string): Answer {
    const none = { pausedAt: null, deletedAt: null, revokedAt: null, exhaustedAt: null };
    this.state.coupons.push({ ...definition, ...none, id, revision: 1, issuedCount: 0 });
    this.happened("COUPON_CREATED", id);
    return this.couponView(this.coupon(id));
  }

  /** `change` answers what changes, null for nothing, or a refusal. */
  private changeCoupon(
    id: string,
    revision: number,
    change: (current: Coupon) => Partial<Coupon> | string | null,
  ): Answer {
    const current = this.coupon(id);
    if (current.deletedAt !== null) return { refused: "COUPON_NOT_FOUND" };
    if (revision !== 0 && revision !== current.revision) return { refused: "STALE_REVISION" };
    const changed = change(current);
    if (typeof changed === "string") return { refused: changed };
    if (changed) this.setCoupon(id, { ...changed, revision: current.revision + 1 });
    return this.couponView(this.coupon(id));
  }

  private setCoupon(id: string, changed: Partial<Coupon>): void {
    this.state.coupons = this.state.coupons.map((one) => (one.id === id ? { ...one, ...changed } : one));
  }

  private edit(current: Coupon, change: Partial<Definition>): Partial<Coupon> | string {
    const wanted = { ...current, ...change };
    const places = this.placesTaken(current);
    if (wanted.expiresAt <= wanted.startsAt) return "INVALID_FIELD";
    if (wanted.quantity !== null && wanted.quantity < current.issuedCount) return "QUANTITY_BELOW_ISSUED";
    if (wanted.usageCap !== null && wanted.usageCap < places) return "USAGE_CAP_BELOW_USED";
    this.happened("COUPON_UPDATED", current.id);
    // Only another cap can make a coupon exhausted, or end that.
    if (wanted.usageCap === current.usageCap) return change;
    const reached = wanted.usageCap !== null && places >= wanted.usageCap;
    return { ...change, exhaustedAt: reached ? (current.exhaustedAt ?? this.state.now) : null };
  }

  private couponState(coupon: Coupon): string {
    const { now } = this.state;
    if (coupon.deletedAt !== null) return "DELETED";
    if (now >= coupon.expiresAt) return "ENDED";
    if (coupon.pausedAt !== null) return "PAUSED";
    if (now < coupon.startsAt) return "SCHEDULED";
    if (coupon.exhaustedAt !== null) return "EXHAUSTED";
    return coupon.issuedCount === coupon.quantity ? "SOLD_OUT" : "ACTIVE";
  }

  private couponView(coupon: Coupon): Answer {
    const { pausedAt: _, revokedAt: __, ...shown } = coupon;
    const { usageCap, quantity } = coupon;
    return {
      ...shown,
      state: this.couponState(coupon),
      usedCount: this.state.usages.filter((usage) => usage.cancelledAt === null && this.couponOf(usage) === coupon.id)
        .length,
      remaining: quantity === null ? null : quantity - coupon.issuedCount,
      // A place that is freed after the cap was reached is nobody's.
      remainingUses: usageCap === null ? null : coupon.exhaustedAt === null ? this.placesLeft(coupon) : 0,
    };
  }

  private couponOf(usage: Usage): string {
    return this.state.userCoupons.find((one) => one.id === usage.userCouponId)?.couponId ?? "";
  }

  // Issuing.

  private issue(call: Call & { method: "issue" }, id: string): Expected {
    const { couponId, userId, requestId } = call;
    const refused = this.issueRefusal(this.coupon(couponId), userId);
    const earlier = this.state.userCoupons.find((one) => requestId !== "" && one.requestId === requestId);
    if (earlier) return this.issuedBefore(earlier, call, refused);
    if (refused) return { refused };
    const { validityMs, claimMs, maxUses, issuedCount } = this.coupon(couponId);
    const { now } = this.state;
    const issued: UserCoupon = {
      id,
      couponId,
      userId,
      requestId,
      validUntil: validityMs === null ? null : now + validityMs,
      maxUses,
      places: 0,
      claimUntil: claimMs === null ? null : now + claimMs,
      releasedAt: null,
      deletedAt: null,
      lock: { version: 0, until: 0, requestId: "" },
    };
    this.state.userCoupons.push(issued);
    this.setCoupon(couponId, { issuedCount: issuedCount + 1 });
    this.happened("USER_COUPON_ISSUED", couponId, id);
    return { replayed: false, ...this.userCouponView(issued, false) };
  }

  private issueRefusal(coupon: Coupon, userId: string): string | undefined {
    const { now } = this.state;
    if (coupon.deletedAt !== null) return "COUPON_NOT_FOUND";
    if (coupon.pausedAt !== null) return "COUPON_PAUSED";
    if (now < coupon.startsAt) return "COUPON_NOT_STARTED";
    if (now >= coupon.expiresAt) return "COUPON_ENDED";
    if (coupon.exhaustedAt !== null) return "USAGE_CAP_REACHED";
    if (this.liveCount(coupon.id, userId) >= coupon.maxPerUser) return "ALREADY_ISSUED";
    return coupon.issuedCount === coupon.quantity ? "SOLD_OUT" : undefined;
  }

  /** A request id that is known never issues again. What the user has no more may also be refused for another reason. */
  private issuedBefore(earlier: UserCoupon, call: Call & { method: "issue" }, refused: string | undefined): Expected {
    const mine = earlier.couponId === call.couponId && earlier.userId === call.userId;
    const or = refused === undefined || (mine && this.isLive(earlier)) ? {} : { or: { refused } };
    if (!mine) return { refused: "REQUEST_ID_REUSED", ...or };
    if (earlier.deletedAt !== null) return { refused: "USER_COUPON_NOT_FOUND", ...or };
    return { replayed: true, ...this.userCouponView(earlier, false), ...or };
  }

  private userCouponView(one: UserCoupon, withCoupon: boolean): Answer {
    const status = this.status(one);
    const usages = this.state.usages.filter((usage) => usage.userCouponId === one.id);
    return {
      id: one.id,
      status,
      expiresAt: this.expiry(one),
      maxUses: one.maxUses,
      useCount: this.standing(one).length,
      lockedUntil: status === "LOCKED" ? one.lock.until : null,
      claimUntil: one.claimUntil,
      ...(withCoupon && {
        coupon: this.couponView(this.coupon(one.couponId)),
        usages: newestFirst(usages).map(usageView),
      }),
    };
  }

  // Using.

  /** Every reason against each choice. */
  private againstEach({ userId, choices, amount }: Order, lockRequestId: string): string[][] {
    const { now } = this.state;
    return choices.map((choice) => {
      const one = this.held(userId, choice.id);
      if (!one) return ["USER_COUPON_NOT_FOUND"];
      const coupon = this.coupon(one.couponId);
      const uses = this.standing(one).length;
      const locked = this.isLocked(one);
      const own =
        locked &&
        (choice.lockVersion === one.lock.version || (lockRequestId !== "" && lockRequestId === one.lock.requestId));
      const { currency, minimum } = coupon.discount;
      const mismatch = amount !== null && currency !== null && currency !== amount.currency;
      const rules: [string, boolean][] = [
        ["USER_COUPON_RELEASED", this.isReleased(one)],
        ["ALREADY_USED", uses >= one.maxUses],
        ["USER_COUPON_REVOKED", coupon.revokedAt !== null],
        ["USAGE_CAP_REACHED", coupon.exhaustedAt !== null && one.places === uses],
        ["USER_COUPON_EXPIRED", this.expiry(one) <= now],
        ["LOCKED", locked && !own && choice.lockVersion === 0],
        ["LOCK_LOST", !own && choice.lockVersion !== 0],
        ["NOT_STACKABLE", choices.length > 1 && !coupon.stackable],
        ["CURRENCY_MISMATCH", mismatch],
        ["MINIMUM_ORDER_NOT_REACHED", amount !== null && !mismatch && amount.units < (minimum ?? 0)],
      ];
      return rules.filter(([, applies]) => applies).map(([reason]) => reason);
    });
  }

  /** The same, and the usage cap counted over the whole order: places are given in the order of the choices. */
  private against(order: Order, lockRequestId = ""): string[][] {
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

  private refusal(order: Order, against: string[][]): Answer | null {
    const all = against.flat();
    if (all.length === 0) return null;
    const ends = order.choices.map(({ id }) => this.held(order.userId, id)?.lock.until ?? 0);
    const retryMs = Math.max(...ends) - this.state.now;
    return { refused: all[0] as string, against, ...(all.every((one) => one === "LOCKED") && { retryMs }) };
  }

  /** What each choice takes off; those with a reason against them nothing. */
  private discounts({ userId, choices, amount }: Order, against: string[][]): number[] {
    let left = amount?.units ?? 0;
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

  private couponDiscount(userId: string, id: string): Discount {
    const one = this.held(userId, id);
    return one
      ? this.coupon(one.couponId).discount
      : { kind: "fixed", value: 0, currency: null, maximum: null, minimum: null };
  }

  private quote(order: Order): Answer {
    const against = this.against(order);
    const discounts = this.discounts(order, against);
    const total = sum(discounts);
    const usable = against.flat().length === 0;
    const coupons = order.choices.map(({ id }) => this.held(order.userId, id)?.couponId ?? "");
    return { coupons, objections: against, discounts, total, final: (order.amount?.units ?? 0) - total, usable };
  }

  private lock(order: Order, requestId: string): Answer {
    const refusal = this.refusal(order, this.against(order, requestId));
    if (refusal) return refusal;
    const { now } = this.state;
    const locks = order.choices.map(({ id }) => {
      const one = this.held(order.userId, id) as UserCoupon;
      const { lockMs } = this.coupon(one.couponId);
      const until = Math.min(now + lockMs, this.expiry(one), one.claimUntil ?? Number.POSITIVE_INFINITY);
      // A lock that is renewed stays the same one.
      one.lock = this.isLocked(one) ? { ...one.lock, until } : { version: one.lock.version + 1, until, requestId };
      this.happened("USER_COUPON_LOCKED", one.couponId, one.id, `${one.lock.version}`, `${until}`);
      return { id, version: one.lock.version, until };
    });
    return { locks };
  }

  private unlock(userId: string, choices: readonly Choice[]): Answer {
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

  private endLock(one: UserCoupon): void {
    one.lock = { version: one.lock.version, until: 0, requestId: "" };
  }

  private use(order: Order, requestId: string, ids: readonly string[]): Answer {
    const earlier = this.state.usages.filter((usage) => requestId !== "" && usage.requestId === requestId);
    if (earlier.length > 0) {
      const inputOf = (one: { userId: string; orderId: string; amount: Money | null }, chosen: string[]) =>
        JSON.stringify([one.userId, one.orderId, one.amount, chosen]);
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
    const usages = order.choices.map((choice, index): Usage => {
      const { userId, orderId } = order;
      const amount = order.amount as Money;
      const discount = discounts[index] ?? 0;
      const common = { userCouponId: choice.id, userId, orderId, amount, discount, requestId };
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
    return { usages: usages.map(usageView), total, final: (order.amount?.units ?? 0) - total, replayed };
  }

  private cancel(userId: string, usageId: string): Answer {
    const usage = this.state.usages.find((one) => one.id === usageId && one.userId === userId);
    if (!usage) return { refused: "USAGE_NOT_FOUND" };
    if (usage.cancelledAt !== null) return { refused: "USAGE_ALREADY_CANCELLED" };
    usage.cancelledAt = this.state.now;
    const one = this.state.userCoupons.find(({ id }) => id === usage.userCouponId) as UserCoupon;
    // Nobody can come back to the place that a deleted one has kept.
    if (one.deletedAt !== null) one.places = this.standing(one).length;
    this.happened("USAGE_CANCELLED", one.couponId, one.id, usage.id);
    return usageView(usage);
  }

  private deleteUserCoupon(call: Call & { method: "deleteUserCoupon" }): Answer {
    const one = this.held(call.userId, call.userCouponId);
    if (!one) return { refused: "USER_COUPON_NOT_FOUND" };
    const uses = this.standing(one).length;
    if (uses > 0 && !call.deleteUsed) return { refused: "ALREADY_USED" };
    if (this.isLocked(one)) return { refused: "LOCKED", retryMs: one.lock.until - this.state.now };
    const restocked = call.restock && uses === 0 && one.releasedAt === null;
    const coupon = this.coupon(one.couponId);
    if (restocked) this.setCoupon(coupon.id, { issuedCount: coupon.issuedCount - 1 });
    one.deletedAt = this.state.now;
    one.claimUntil = null;
    one.places = uses;
    this.happened("USER_COUPON_DELETED", one.couponId, one.id, `${restocked}`);
    return { restocked };
  }

  /** One round, as it runs every second. */
  private release(): void {
    for (const one of this.state.userCoupons) {
      if (one.claimUntil === null || one.claimUntil > this.state.now) continue;
      if (one.claimUntil < this.expiry(one)) {
        const { id, issuedCount } = this.coupon(one.couponId);
        one.releasedAt = this.state.now;
        this.endLock(one);
        this.setCoupon(id, { issuedCount: issuedCount - 1 });
        this.happened("USER_COUPON_RELEASED", id, one.id);
      }
      one.claimUntil = null;
    }
  }

  /** A repeated request gets the first one's answer; with other input it is refused. Refusals are not remembered. */
  private once(call: Call & { requestId: string }, work: () => Answer): Answer {
    const { method, requestId, ...rest } = call;
    const key = `${method} ${requestId}`;
    const input = JSON.stringify(rest);
    const earlier = requestId === "" ? undefined : this.state.answered[key];
    if (earlier) return earlier.input === input ? earlier.answer : { refused: "REQUEST_ID_REUSED" };
    const answer = work();
    if (requestId !== "" && !answer.refused) this.state.answered[key] = { input, answer };
    return answer;
  }

  private happened(kind: string, ...facts: string[]): void {
    this.state.events.push([kind, ...facts].join(" "));
  }
}

export function usageView(usage: Usage): Answer {
  const { id, userCouponId, userId, orderId, amount, discount, usedAt, cancelledAt } = usage;
  return { id, userCouponId, userId, orderId, amount, discount, usedAt, cancelledAt };
}

/** Ids are in the order of time. */
function newestFirst<T extends { id: string }>(all: readonly T[]): T[] {
  return [...all].sort((a, b) => (a.id < b.id ? 1 : -1));
}

function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0);
}
