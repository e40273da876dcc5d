import { type Answer, type Call, type Expected, type ListCall, namesOfItems } from "./call.js";
import { stepMs } from "./commands.js";
import type { UserCoupon } from "./state.js";
import { Upkeep } from "./upkeep.js";
import { newestFirst, usageView } from "./world.js";

/**
 * What the service must answer, in a few rules. They are taken from the comments of the proto files and call nothing of
 * src/: the model is what src/ is held against.
 */
export class Model extends Upkeep {
  static at(now: number): Model {
    return new Model({
      now,
      coupons: [],
      userCoupons: [],
      usages: [],
      codes: [],
      lastCode: 0,
      jobs: [],
      uploads: [],
      issuedOnDay: {},
      purged: {},
      answered: {},
      lockVersions: {},
      events: [],
      history: [],
      records: [],
      turn: 0,
    });
  }

  clone(): Model {
    return new Model(structuredClone(this.state));
  }

  /** The next of those that there are now, whatever has become of those before. */
  private page({ list, size, after }: Call & { method: "page" }, all: Expected, token: unknown): Expected {
    if (all.refused) return all;
    const isNext = (one: Answer) => after === null || this.isBehind(list, one, after);
    const left = (all[namesOfItems[list.method]] as Answer[]).filter(isNext);
    const items = left.slice(0, size);
    // What it says is the service's choice.
    return { items, isLast: left.length <= size, token };
  }

  /** By what a list is in the order of. */
  private isBehind({ method }: ListCall, one: Answer, after: string | number): boolean {
    return method === "listCodes" ? this.placeOf(method, one) > after : this.placeOf(method, one) < after;
  }

  placeOf(method: ListCall["method"], one: Answer): string | number {
    if (method !== "listCodes") return String(one.id);
    return this.codesOf(String(one.couponId)).find(({ code }) => code === one.code)?.number ?? 0;
  }

  /** The right answer, after which the state is what it must be. `told`: the service's own, for what it made and chose. */
  apply(call: Call, told: Answer): Expected {
    const id = String(told.id ?? "?");
    switch (call.method) {
      case "create":
        return this.once(call, () => this.administered(call, id, () => this.create(call.definition, id)));
      case "createMany":
        return this.once(call, () => this.createMany(call, (told.outcomes ?? []) as Answer[]));
      case "update":
        if (this.isWrong(call.change)) return { refused: "INVALID_FIELD" };
        return this.change(call, call.revision, (it) => this.edit(it, call.change));
      case "pause":
      case "resume":
        return this.change(call, 0, ({ pausedAt }) => {
          if ((call.method === "pause") === (pausedAt !== null)) return null;
          this.happened(`COUPON_${call.method.toUpperCase()}D`, call.couponId);
          return { pausedAt: call.method === "pause" ? this.state.now : null };
        });
      case "delete":
        return this.change(call, call.revision, () => {
          this.happened("COUPON_DELETED", call.couponId);
          return { deletedAt: this.state.now, revokedAt: call.revoke ? this.state.now : null };
        });
      case "getCoupon":
        return this.couponView(this.coupon(call.couponId));
      case "upload":
        return this.once(call, () => this.upload(call, String(told.couponId ?? "?"), String(told.uploadId || "?")));
      case "generate":
        return this.generate(call, id);
      case "cancelJob":
        return this.cancelJob(call);
      case "listJobs":
        return this.listJobs(call.couponId, call.states);
      case "getJob":
        return this.getJob(call.jobId);
      case "deleteCodes":
        return this.once(call, () => this.deleteCodes(call));
      case "runGenerator":
        return this.runGenerator(told);
      case "listCodes":
        return this.listCodes(call.couponId, call.statuses);
      case "listCoupons": {
        const shown = this.state.coupons.filter(({ deletedAt }) => call.showDeleted || deletedAt === null);
        return { coupons: newestFirst(shown).map((coupon) => this.couponView(coupon)) };
      }
      case "searchCoupons":
        return this.search(call);
      case "issue":
        return this.issue(call, { id, code: String(told.code ?? "") });
      case "quote":
        return this.quote(call.order);
      case "lock":
        return this.lock(call.order, call.requestId, told);
      case "unlock":
        return this.unlock(call.userId, call.choices);
      case "use": {
        const usages = (told.usages ?? []) as { id: string }[];
        return this.use(
          call.order,
          call.requestId,
          usages.map((usage) => usage.id),
        );
      }
      case "cancel":
        return this.once(call, () => this.cancel(call));
      case "deleteUserCoupon":
        return this.once(call, () => this.deleteUserCoupon(call));
      case "getUserCoupon": {
        const one = this.held(call.userId, call.userCouponId);
        return one ? this.userCouponView(one, true) : { refused: "USER_COUPON_NOT_FOUND" };
      }
      case "listUserCoupons": {
        const held = this.state.userCoupons.filter((one) => one.userId === call.userId && one.deletedAt === null);
        const hidden = (one: UserCoupon) => ["EXPIRED", "RELEASED"].includes(this.status(one));
        const isWanted = (one: UserCoupon) =>
          call.statuses.length > 0 ? call.statuses.includes(this.status(one)) : call.showExpired || !hidden(one);
        const shown = held.filter(isWanted);
        return { userCoupons: newestFirst(shown).map((one) => this.userCouponView(one, true, call.showUsages)) };
      }
      case "listUsages": {
        const { userId, couponId, productId, orderId, showCancelled } = call;
        const shown = this.state.usages.filter(
          (one) =>
            (userId === "" || one.userId === userId) &&
            (couponId === "" || one.couponId === couponId) &&
            (productId === "" || one.productId === productId) &&
            (orderId === "" || one.orderId === orderId) &&
            (showCancelled || one.cancelledAt === null),
        );
        return { usages: newestFirst(shown).map(usageView) };
      }
      case "page":
        return this.page(call, this.apply(call.list, {}), told.token);
      case "getUsage": {
        const usage = this.state.usages.find(({ id, userId }) => id === call.usageId && userId === call.userId);
        return usage ? usageView(usage) : { refused: "USAGE_NOT_FOUND" };
      }
      case "getStats":
        return { ...this.stats(call.scope), readAt: this.state.now };
      case "step":
        this.state.now += stepMs;
        return {};
      case "release":
        this.release();
        return {};
      case "expireCodes":
        this.expireCodes();
        return {};
      case "expire":
        this.expire();
        return {};
      case "purge":
        return this.purge(call.dryRun);
    }
  }
}
