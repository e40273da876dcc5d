import type { Answer, Call, Scope } from "./call.js";
import { Issuing } from "./issuing.js";
import type { Code, Coupon, UserCoupon } from "./state.js";
import { dayMs, noPurged, sum } from "./world.js";

const hourMs = 3_600_000;

/** What has ended so long ago is purged. */
export const purgeAfterDays = 1;
/** Free codes of a book that was deleted go sooner. */
export const deletedCodesKeepHours = 2;

/** What users lose: deletion, release, expiry, purge; and what GetStats says of it all. */
export class Upkeep extends Issuing {
  protected deleteUserCoupon(call: Call & { method: "deleteUserCoupon" }): Answer {
    const one = this.held(call.userId, call.userCouponId);
    if (!one) return { refused: "USER_COUPON_NOT_FOUND" };
    const uses = this.standing(one).length;
    if (uses > 0 && !call.deleteUsed) return { refused: "ALREADY_USED" };
    if (this.isLocked(one)) return { refused: "LOCKED", retryMs: one.lock.until - this.state.now };
    if (this.isReleased(one) && one.releasedAt === null) this.giveBack([this.releaseOne(one)]);
    const restocked = call.restock && uses === 0 && one.releasedAt === null;
    const coupon = this.coupon(one.couponId);
    if (restocked) {
      this.setCoupon(coupon.id, { issuedCount: coupon.issuedCount - 1 });
      this.giveBack([one.codeNumber]);
    }
    one.deletedAt = this.state.now;
    one.countedExpired = false;
    one.claimUntil = null;
    one.places = uses;
    one.endedAt ??= this.state.now;
    this.happened("USER_COUPON_DELETED", one.couponId, one.id, `${restocked}`);
    return { restocked };
  }

  /** One round, as it runs every second. */
  protected release(): void {
    const returned: (number | null)[] = [];
    for (const one of this.state.userCoupons) {
      if (one.claimUntil === null || one.claimUntil > this.state.now) continue;
      if (this.isReleased(one)) returned.push(this.releaseOne(one));
      one.claimUntil = null;
    }
    this.giveBack(returned);
  }

  /** The code that goes back into stock. */
  private releaseOne(one: UserCoupon): number | null {
    const { id, issuedCount } = this.coupon(one.couponId);
    one.releasedAt = this.state.now;
    one.endedAt = this.state.now;
    this.endLock(one);
    this.setCoupon(id, { issuedCount: issuedCount - 1 });
    this.happened("USER_COUPON_RELEASED", id, one.id);
    return one.codeNumber;
  }

  /** One round, as it runs every second: puts on record whose own validity ran out before it was used up. */
  protected expire(): void {
    for (const one of this.state.userCoupons) {
      const { validUntil, deletedAt, countedExpired, maxUses } = one;
      if (validUntil === null || validUntil > this.state.now || deletedAt !== null || countedExpired) continue;
      if (this.isReleased(one) || this.standing(one).length >= maxUses) continue;
      one.countedExpired = true;
      one.claimUntil = null;
      one.endedAt = validUntil;
      this.happened("USER_COUPON_EXPIRED", one.couponId, one.id);
    }
  }

  /**
   * One round. A dry run changes nothing and so does not see that the last ones who had a code are gone when others were
   * counted: it may count fewer codes.
   */
  protected purge(dryRun: boolean): Answer {
    const horizon = this.state.now - purgeAfterDays * dayMs;
    const hasLongEnded = ({ expiresAt, updatedAt }: Coupon) => Math.max(expiresAt, updatedAt) <= horizon;
    const isUnused = (one: UserCoupon) => !this.state.usages.some((usage) => usage.userCouponId === one.id);
    const hasEnded = (one: UserCoupon) => one.endedAt !== null && one.endedAt <= horizon;
    const count = { userCoupons: 0, codes: 0 };

    const removeCodes = (codes: readonly Code[]) => {
      count.codes += codes.length;
      if (dryRun) return;
      this.state.codes = this.state.codes.filter((code) => !codes.includes(code));
      for (const { id, revision } of this.state.coupons) {
        const ofCoupon = codes.filter(({ couponId }) => couponId === id);
        const inStock = ofCoupon.filter(({ outOfStockAt }) => outOfStockAt === null);
        this.countPurged(id, { codes: ofCoupon.length });
        if (inStock.some(({ holders, maxHolders }) => holders < maxHolders))
          this.setCoupon(id, { revision: revision + 1 });
      }
    };
    const remove = (held: readonly UserCoupon[]) => {
      count.userCoupons += held.length;
      // The codes that only they held go with them, unless such a code can still be issued.
      const numbers = new Set(held.map(({ codeNumber }) => codeNumber));
      const isLeft = ({ number }: Code) =>
        this.state.userCoupons.some((one) => one.codeNumber === number && !held.includes(one));
      const isOver = (code: Code) =>
        code.holders > 0 &&
        (code.holders === code.maxHolders ||
          (code.outOfStockAt !== null && code.outOfStockAt <= horizon) ||
          hasLongEnded(this.coupon(code.couponId)));
      const codes = this.state.codes.filter((code) => numbers.has(code.number) && !isLeft(code) && isOver(code));
      removeCodes(codes);
      if (dryRun) return;
      this.state.userCoupons = this.state.userCoupons.filter((one) => !held.includes(one));
      for (const one of held) {
        const kind = one.releasedAt !== null ? "released" : one.deletedAt !== null ? "deleted" : "expired";
        this.countPurged(one.couponId, { [kind]: 1 });
      }
    };

    remove(this.state.userCoupons.filter((one) => isUnused(one) && hasEnded(one)));
    for (const coupon of this.state.coupons.filter(hasLongEnded)) {
      const isOfEnded = (one: UserCoupon) =>
        one.couponId === coupon.id && one.deletedAt === null && !hasEnded(one) && !this.isReleased(one);
      remove(this.state.userCoupons.filter((one) => isOfEnded(one) && isUnused(one)));
    }
    const keptUntil = this.state.now - deletedCodesKeepHours * hourMs;
    const isFree = ({ number, holders, maxHolders, outOfStockAt }: Code) =>
      outOfStockAt === null &&
      (holders === 0 || (holders < maxHolders && !this.state.userCoupons.some((one) => one.codeNumber === number)));
    for (const coupon of this.state.coupons) {
      const isDeleted = coupon.deletedAt !== null && coupon.deletedAt <= keptUntil;
      if (isDeleted || hasLongEnded(coupon)) removeCodes(this.codesOf(coupon.id).filter(isFree));
    }
    removeCodes(
      this.state.codes.filter(
        ({ holders, outOfStockAt }) => holders === 0 && outOfStockAt !== null && outOfStockAt <= horizon,
      ),
    );
    if (dryRun) return count;
    for (const [key, { at }] of Object.entries(this.state.answered)) if (at <= horizon) delete this.state.answered[key];
    return count;
  }

  protected stats(scope: Scope): Answer {
    const coupons = this.state.coupons.filter((one) => {
      if (scope === null) return true;
      return "type" in scope ? one.type === scope.type : one.id === scope.couponId;
    });
    return coupons.map((one) => this.statsOf(one)).reduce(added, noStats);
  }

  private statsOf(coupon: Coupon): Stats {
    const { id, revokedAt, exhaustedAt } = coupon;
    const purged = this.state.purged[id] ?? noPurged;
    const all = this.state.userCoupons.filter(({ couponId }) => couponId === id);
    const deleted = all.filter((one) => one.deletedAt !== null && one.releasedAt === null);
    const held = all.filter((one) => one.deletedAt === null);
    const usages = this.state.usages.filter((usage) => usage.couponId === id);
    const statusCount = (status: string) => held.filter((one) => this.status(one) === status).length;
    // What was purged had expired, and was never used.
    const isRevoked = revokedAt !== null || exhaustedAt !== null;
    return {
      couponCount: 1,
      codeCount: this.codesOf(id).length + purged.codes,
      issuedCount: all.length + purged.expired + purged.deleted + purged.released,
      deletedCount: deleted.length + purged.deleted,
      releasedCount: all.filter(({ releasedAt }) => releasedAt !== null).length + purged.released,
      usedCount: usages.length,
      cancelledCount: usages.filter(({ cancelledAt }) => cancelledAt !== null).length,
      revokedCount: statusCount("REVOKED") + (isRevoked ? purged.expired : 0),
      expiredCount: statusCount("EXPIRED") + (isRevoked ? 0 : purged.expired),
    };
  }
}

const noStats = {
  couponCount: 0,
  codeCount: 0,
  issuedCount: 0,
  deletedCount: 0,
  releasedCount: 0,
  usedCount: 0,
  cancelledCount: 0,
  revokedCount: 0,
  expiredCount: 0,
};
type Stats = typeof noStats;

function added(a: Stats, b: Stats): Stats {
  const names = Object.keys(noStats) as (keyof Stats)[];
  return Object.fromEntries(names.map((name) => [name, sum([a[name], b[name]])])) as Stats;
}
