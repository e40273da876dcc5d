import type { Answer, Call } from "./call.js";
import type { Code, Coupon, Happening, Purged, State, Usage, UserCoupon } from "./state.js";

export const dayMs = 86_400_000;
/** Where the days of quotas begin: Nepal is 5:45 hours ahead of UTC, all year. */
export const timeZone = "Asia/Kathmandu";
const aheadMs = (5 * 60 + 45) * 60_000;
const editKinds = ["CREATED", "UPDATED", "PAUSED", "RESUMED", "DELETED"].map((edit) => `COUPON_${edit}`);
const separators = /[ ._-]/g;

export const noPurged: Purged = { expired: 0, deleted: 0, released: 0, codes: 0 };

/** Which day it is in that zone, counted from 1970. */
export function dayOf(at: number): number {
  return Math.floor((at + aheadMs) / dayMs);
}

/** The moment at which the next day begins there. */
export function nextMidnight(at: number): number {
  return (dayOf(at) + 1) * dayMs - aheadMs;
}

/** What there is, and how it is seen: the part of the model that changes nothing by itself. */
export class World {
  constructor(readonly state: State) {}

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

  expiry(one: UserCoupon): number {
    return Math.min(one.validUntil ?? Number.POSITIVE_INFINITY, this.coupon(one.couponId).expiresAt);
  }

  isReleased({ releasedAt, claimUntil, ...one }: UserCoupon): boolean {
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

  // Codes.

  /** What makes two codes the same one, over all coupons. */
  codeKey(code: string, book: Coupon["book"]): string {
    return book === "exact" ? `exact ${code}` : `folded ${code.replace(separators, "").toUpperCase()}`;
  }

  keyOf(code: Code): string {
    return this.codeKey(code.code, this.coupon(code.couponId).book);
  }

  /** The codes that a caller may mean, the one that is written exactly so first: books of both kinds may have it. */
  findCodes(written: string): Code[] {
    const keys = [this.codeKey(written, "exact"), this.codeKey(written, "folded")];
    const found = this.state.codes.filter((one) => keys.includes(this.keyOf(one)));
    return found.sort((a, b) => keys.indexOf(this.keyOf(a)) - keys.indexOf(this.keyOf(b)));
  }

  /** Whether what is written names this code of a coupon, which may have been deleted since. */
  isNamed(written: string, code: string | null, couponId: string): boolean {
    if (code === null) return false;
    const { book } = this.coupon(couponId);
    return this.codeKey(written, book) === this.codeKey(code, book);
  }

  codesOf(couponId: string): Code[] {
    return this.state.codes.filter((one) => one.couponId === couponId);
  }

  isExpiredCode({ outOfStockAt, expiresAt }: Code): boolean {
    return outOfStockAt !== null || (expiresAt !== null && expiresAt <= this.state.now);
  }

  /** Of a code book, free seats of the codes that are in stock. */
  freeSeats(couponId: string): number {
    const inStock = this.codesOf(couponId).filter(({ outOfStockAt }) => outOfStockAt === null);
    return sum(inStock.map(({ maxHolders, holders }) => maxHolders - holders));
  }

  /** How many may be issued at most; null: unlimited. A code book has its codes. */
  quantityOf({ id, book, quantity, issuedCount }: Coupon): number | null {
    return book === null ? quantity : issuedCount + this.freeSeats(id);
  }

  /** The codes of which one may be issued next. */
  pickable({ id, isTypePool }: Coupon): Code[] {
    const free = this.codesOf(id).filter((one) => one.holders < one.maxHolders && !this.isExpiredCode(one));
    const first = Math.min(...free.map(({ expiresAt }) => expiresAt ?? Number.POSITIVE_INFINITY));
    return isTypePool ? free.filter(({ expiresAt }) => expiresAt === first) : free;
  }

  discountOf(one: UserCoupon): Coupon["discount"] {
    return one.discount ?? this.coupon(one.couponId).discount;
  }

  issuedToday(coupon: Coupon, userId: string): number {
    return this.state.issuedOnDay[this.quotaKey(coupon, userId)] ?? 0;
  }

  quotaKey({ quota }: Coupon, userId: string): string {
    return `${quota?.group} ${userId} ${dayOf(this.state.now)}`;
  }

  // Views.

  couponState(coupon: Coupon): string {
    const { now } = this.state;
    if (coupon.deletedAt !== null) return "DELETED";
    if (now >= coupon.expiresAt) return "ENDED";
    if (coupon.pausedAt !== null) return "PAUSED";
    if (now < coupon.startsAt) return "SCHEDULED";
    if (coupon.exhaustedAt !== null) return "EXHAUSTED";
    return coupon.issuedCount === this.quantityOf(coupon) ? "SOLD_OUT" : "ACTIVE";
  }

  couponView(coupon: Coupon): Answer {
    const { pausedAt: _, revokedAt: __, ...shown } = coupon;
    const { usageCap } = coupon;
    const quantity = this.quantityOf(coupon);
    return {
      ...shown,
      // The codes of a pool have their own.
      discount: coupon.isTypePool ? undefined : coupon.discount,
      quantity,
      state: this.couponState(coupon),
      usedCount: this.state.usages.filter((usage) => usage.cancelledAt === null && usage.couponId === coupon.id).length,
      remaining: quantity === null ? null : quantity - coupon.issuedCount,
      // A place that is freed after the cap was reached is nobody's.
      remainingUses: usageCap === null ? null : coupon.exhaustedAt === null ? this.placesLeft(coupon) : 0,
    };
  }

  userCouponView(one: UserCoupon, withCoupon: boolean, withUsages = withCoupon): Answer {
    const status = this.status(one);
    const usages = this.state.usages.filter((usage) => usage.userCouponId === one.id);
    return {
      id: one.id,
      couponId: one.couponId,
      userId: one.userId,
      issuedAt: one.issuedAt,
      code: one.code,
      labels: one.labels,
      discount: one.discount,
      status,
      expiresAt: this.expiry(one),
      maxUses: one.maxUses,
      useCount: this.standing(one).length,
      lockedUntil: status === "LOCKED" ? one.lock.until : null,
      claimUntil: one.claimUntil,
      ...(withCoupon && {
        coupon: this.couponView(this.coupon(one.couponId)),
        usages: withUsages ? newestFirst(usages).map(usageView) : [],
      }),
    };
  }

  // Changes.

  setCoupon(id: string, changed: Partial<Coupon>): void {
    this.state.coupons = this.state.coupons.map((one) => (one.id === id ? { ...one, ...changed } : one));
  }

  /** A repeated request gets the first one's answer; with other input it is refused. Refusals are not remembered. */
  once(call: Call & { requestId: string }, work: () => Answer): Answer {
    const { method, requestId, ...rest } = call;
    const key = `${method} ${requestId}`;
    const input = JSON.stringify(rest);
    const earlier = requestId === "" ? undefined : this.state.answered[key];
    if (earlier) return earlier.input === input ? earlier.answer : { refused: "REQUEST_ID_REUSED" };
    const answer = work();
    if (requestId !== "" && !answer.refused) this.state.answered[key] = { input, answer, at: this.state.now };
    return answer;
  }

  /** Counts what is there no more. */
  countPurged(couponId: string, more: Partial<Purged>): void {
    const before = this.state.purged[couponId] ?? noPurged;
    const add = (kind: keyof Purged) => before[kind] + (more[kind] ?? 0);
    this.state.purged[couponId] = {
      expired: add("expired"),
      deleted: add("deleted"),
      released: add("released"),
      codes: add("codes"),
    };
  }

  happened(kind: string, ...facts: string[]): void {
    this.state.events.push([kind, ...facts, this.state.now].join(" "));
    const [couponId = "", userCouponId = "", usageId = ""] = facts;
    const holder = this.state.userCoupons.find(({ id }) => id === userCouponId);
    const isOfUsage = kind === "USER_COUPON_USED" || kind === "USAGE_CANCELLED";
    this.state.history.push({
      ...{ kind, couponId, userCouponId, userId: holder?.userId ?? "", usageId: isOfUsage ? usageId : "" },
      revision: editKinds.includes(kind) ? this.coupon(couponId).revision + (kind === "COUPON_CREATED" ? 0 : 1) : 0,
      count: 0,
      at: this.state.now,
      turn: this.state.turn,
    });
  }

  /** What an administrative call has done, besides its event. */
  onRecord(
    { method, requestId }: { readonly method: string; readonly requestId: string },
    targetId: string,
    before: object | null,
    after: object,
  ): void {
    const { now, records } = this.state;
    records.push({ method, requestId, targetId, before, after, at: now });
  }

  codesHappened(kind: string, couponId: string, count: number): void {
    this.happened(kind, couponId);
    const { history } = this.state;
    history.push({ ...(history.pop() as Happening), count });
  }
}

export function usageView(usage: Usage): Answer {
  const { requestId: _, before: __, ...shown } = usage;
  return shown;
}

/** Ids are in the order of time. */
export function newestFirst<T extends { id: string }>(all: readonly T[]): T[] {
  return [...all].sort((a, b) => (a.id < b.id ? 1 : -1));
}

export function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0);
}
