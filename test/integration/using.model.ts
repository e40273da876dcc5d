import type { Coupon } from "../../src/domain/coupon.js";
import { type ChosenCoupon, judgeOrder, type UseRefusal } from "../../src/domain/usage.js";
import { expiryOf, type UserCoupon } from "../../src/domain/user-coupon.js";
import type { LockAsk, UseAsk } from "../../src/storage/ports.js";

export interface CouponModel extends Pick<Coupon, "id" | "expiresAt" | "usageCap" | "lockDurationMs"> {
  readonly revokedAt: Date | null;
  readonly revision: number;
  exhaustedAt: Date | null;
  issuedCount: number;
  usedCount: number;
  placeCount: number;
  exhaustions: number;
}

export interface UserCouponModel {
  readonly id: string;
  readonly couponId: string;
  readonly userId: string;
  readonly validUntil: Date | null;
  readonly maxUses: number;
  useCount: number;
  placeCount: number;
  lockedUntil: Date | null;
  lockVersion: number;
  lockToken: string | null;
  claimUntil: Date | null;
  releasedAt: Date | null;
  deletedAt: Date | null;
}

interface UsageModel {
  readonly ask: UseAsk;
  cancelledAt: Date | null;
}

export type Said = { readonly kind: string; readonly reason?: UseRefusal };

const refused = (reason: UseRefusal): Said => ({ kind: "REFUSED", reason });

/** What Postgres must do, in memory and one thing after the other; the rules are the domain's. */
export class UsingModel {
  readonly coupons = new Map<string, CouponModel>();
  readonly userCoupons = new Map<string, UserCouponModel>();
  readonly usages = new Map<string, UsageModel>();
  private readonly requests = new Map<string, string>();
  now = new Date(0);

  use(asks: readonly UseAsk[], together: boolean): Said[] {
    const before = this.copy();
    // What speaks against each is read once, when the batch begins.
    const verdicts = asks.map((ask) => this.verdictOn(ask));
    const locked = new Map(asks.map(({ userCouponId }) => [userCouponId, this.isLocked(userCouponId)]));
    const said = asks.map((ask, index) => verdicts[index] ?? this.useOne(ask, locked.get(ask.userCouponId) === true));
    if (!together || said.every(({ kind }) => kind === "USED")) return said;
    this.restore(before);
    return said.map((one, index) => (one.kind === "USED" && !verdicts[index] ? { kind: "CONSENT" } : one));
  }

  lock(asks: readonly LockAsk[], together: boolean): (Said & { version?: number; until?: Date })[] {
    const before = this.copy();
    const verdicts = asks.map((ask) => {
      const held = this.held(ask);
      if (!held) return refused("USER_COUPON_NOT_FOUND");
      const { lockVersion, token } = ask;
      return this.against(held, this.isLocked(held.id) && held.lockToken === token ? held.lockVersion : lockVersion);
    });
    const wasLocked = new Map(asks.map(({ userCouponId }) => [userCouponId, this.isLocked(userCouponId)]));
    const granted = new Set<string>();
    const said = asks.map(({ userCouponId, token }, index) => {
      const verdict = verdicts[index];
      if (verdict) return verdict;
      const held = this.userCoupons.get(userCouponId) as UserCouponModel;
      const coupon = this.couponOf(held);
      if (granted.has(userCouponId)) {
        // Unless it is the same call once more.
        if (!wasLocked.get(userCouponId) && held.lockToken !== token) return refused("LOCKED");
        return { kind: "GRANTED", version: held.lockVersion, until: held.lockedUntil as Date };
      }
      granted.add(userCouponId);
      const ends = [this.after(coupon.lockDurationMs), expiryOf(held, coupon), held.claimUntil];
      const until = new Date(Math.min(...ends.map((end) => end?.getTime() ?? Number.POSITIVE_INFINITY)));
      if (!wasLocked.get(userCouponId)) held.lockVersion += 1;
      held.lockedUntil = until;
      held.lockToken = token;
      return { kind: "GRANTED", version: held.lockVersion, until };
    });
    if (!together || said.every(({ kind }) => kind === "GRANTED")) return said;
    this.restore(before);
    return said.map((one) => (one.kind === "GRANTED" ? { kind: "CONSENT" } : one));
  }

  unlock(userId: string, choices: readonly { userCouponId: string; lockVersion: number }[]): string[] | null {
    const helds = choices.map(({ userCouponId }) => this.held({ userCouponId, userId }));
    if (helds.includes(undefined)) return null;
    return choices.flatMap(({ userCouponId, lockVersion }) => {
      const held = this.userCoupons.get(userCouponId) as UserCouponModel;
      if (!this.isLocked(userCouponId) || held.lockVersion !== lockVersion) return [];
      this.endLock(held);
      return [userCouponId];
    });
  }

  cancel(userId: string, usageId: string): "USAGE_NOT_FOUND" | "USAGE_ALREADY_CANCELLED" | { freed: boolean } {
    const usage = this.usages.get(usageId);
    if (usage?.ask.userId !== userId) return "USAGE_NOT_FOUND";
    if (usage.cancelledAt) return "USAGE_ALREADY_CANCELLED";
    usage.cancelledAt = this.now;
    const held = this.userCoupons.get(usage.ask.userCouponId) as UserCouponModel;
    const coupon = this.couponOf(held);
    held.useCount -= 1;
    coupon.usedCount -= 1;
    const freed = held.deletedAt !== null;
    if (freed) {
      held.placeCount -= 1;
      coupon.placeCount -= 1;
    }
    return { freed };
  }

  delete(userId: string, userCouponId: string, restock: boolean, usedToo: boolean): string | { restocked: boolean } {
    const held = this.held({ userCouponId, userId });
    if (!held) return "USER_COUPON_NOT_FOUND";
    if (held.useCount > 0 && !usedToo) return "ALREADY_USED";
    if (this.isLocked(userCouponId)) return "LOCKED";
    const coupon = this.couponOf(held);
    const restocked = restock && held.useCount === 0 && held.releasedAt === null;
    if (restocked) coupon.issuedCount -= 1;
    coupon.placeCount -= held.placeCount - held.useCount;
    held.placeCount = held.useCount;
    held.deletedAt = this.now;
    held.claimUntil = null;
    this.endLock(held);
    return { restocked };
  }

  release(): string[] {
    const due = [...this.userCoupons.values()].filter(({ claimUntil }) => claimUntil && claimUntil <= this.now);
    return due.flatMap((held) => {
      const coupon = this.couponOf(held);
      const inTime = (held.claimUntil as Date) < expiryOf(held, coupon);
      held.claimUntil = null;
      if (!inTime) return [];
      held.releasedAt = this.now;
      this.endLock(held);
      coupon.issuedCount -= 1;
      return [held.id];
    });
  }

  private useOne(ask: UseAsk, locked: boolean): Said {
    const held = this.userCoupons.get(ask.userCouponId) as UserCouponModel;
    const coupon = this.couponOf(held);
    // A use spends the lock.
    if (locked && held.lockedUntil === null) return refused("LOCK_LOST");
    if (held.useCount >= held.maxUses) return refused("ALREADY_USED");
    const needsPlace = held.useCount >= held.placeCount;
    const isFull = coupon.exhaustedAt !== null || (coupon.usageCap !== null && coupon.placeCount >= coupon.usageCap);
    if (needsPlace && isFull) return refused("USAGE_CAP_REACHED");
    held.useCount += 1;
    coupon.usedCount += 1;
    held.claimUntil = null;
    this.endLock(held);
    if (needsPlace) {
      held.placeCount += 1;
      coupon.placeCount += 1;
      if (coupon.placeCount === coupon.usageCap) {
        coupon.exhaustedAt = this.now;
        coupon.exhaustions += 1;
      }
    }
    this.usages.set(ask.usageId, { ask, cancelledAt: null });
    if (ask.requestId) this.requests.set(`${ask.requestId} ${ask.item}`, ask.usageId);
    return { kind: "USED" };
  }

  private verdictOn(ask: UseAsk): Said | null {
    if (this.usages.has(ask.usageId)) return { kind: "USED" };
    if (ask.requestId && this.requests.has(`${ask.requestId} ${ask.item}`)) return { kind: "REPLAYED" };
    const held = this.held(ask);
    if (!held) return refused("USER_COUPON_NOT_FOUND");
    if (this.couponOf(held).revision !== ask.revision) return { kind: "STALE" };
    return this.against(held, ask.lockVersion);
  }

  private against(held: UserCouponModel, lockVersion: number): Said | null {
    const order = {
      userId: held.userId,
      choices: [{ userCouponId: held.id, lockVersion }],
      productId: "",
      orderId: "",
    };
    const chosen = {
      userCoupon: held as unknown as UserCoupon,
      coupon: this.couponOf(held) as unknown as Coupon,
      lockVersion: held.lockVersion,
      lockToken: null,
    } satisfies ChosenCoupon;
    const [reason] = judgeOrder({ ...order, amount: null }, [chosen], this.now).objections[0] ?? [];
    return reason ? refused(reason) : null;
  }

  private held({ userCouponId, userId }: { userCouponId: string; userId: string }): UserCouponModel | undefined {
    const held = this.userCoupons.get(userCouponId);
    return held?.userId === userId && !held.deletedAt ? held : undefined;
  }

  private isLocked(userCouponId: string): boolean {
    const until = this.userCoupons.get(userCouponId)?.lockedUntil;
    return until !== undefined && until !== null && until > this.now;
  }

  private endLock(held: UserCouponModel): void {
    held.lockedUntil = null;
    held.lockToken = null;
  }

  private couponOf({ couponId }: UserCouponModel): CouponModel {
    return this.coupons.get(couponId) as CouponModel;
  }

  private after(ms: number): Date {
    return new Date(this.now.getTime() + ms);
  }

  private copy() {
    const { coupons, userCoupons, usages, requests } = this;
    return structuredClone({ coupons, userCoupons, usages, requests });
  }

  private restore(before: ReturnType<UsingModel["copy"]>): void {
    const stores = ["coupons", "userCoupons", "usages", "requests"] as const;
    for (const store of stores) {
      const map = this[store] as Map<string, unknown>;
      map.clear();
      for (const [key, value] of before[store]) map.set(key, value);
    }
  }
}
