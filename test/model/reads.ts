import type { Call, Scope } from "./call.js";
import type { Command } from "./commands.js";
import { pickBook } from "./definitions.js";
import type { Model } from "./model.js";
import { pick } from "./orders-of.js";

/** What is read, of whom, and what of it. */
export function readCall({ what, pick: index }: Command & { kind: "read" }, model: Model): Call | null {
  const { coupons, userCoupons, usages, jobs } = model.state;
  switch (what) {
    case "stats":
      return { method: "getStats", scope: scopeOf(index, model) };
    case "coupons":
      return { method: "listCoupons", showDeleted: index % 2 === 0 };
    case "search": {
      const query = ["", "", "model", "nam another", "another model", "mod", "coffee a"][index % 7] as string;
      const category = ["", "", "FOOD", "name of a Model"][index % 4] as string;
      const type = [null, null, "FREE" as const][index % 3] as "FREE" | null;
      const discountKind = [null, "fixed" as const, "percentage" as const][index % 4] ?? null;
      return { method: "searchCoupons", query, category, type, discountKind, showEnded: index % 2 === 0 };
    }
    case "job": {
      const job = pick(jobs, index);
      return job ? { method: "getJob", jobId: job.id } : null;
    }
    case "codes":
    case "jobs": {
      const book = pickBook(model, index);
      if (!book) return null;
      if (what === "jobs") {
        const states = someOf(["RUNNING", "DONE", "FAILED", "CANCELLED"], index);
        return { method: "listJobs", couponId: index % 2 === 0 ? book.id : "", states };
      }
      return { method: "listCodes", couponId: book.id, statuses: someOf(["FREE", "ISSUED", "USED", "EXPIRED"], index) };
    }
    case "coupon": {
      const coupon = pick(coupons, index);
      return coupon ? { method: "getCoupon", couponId: coupon.id } : null;
    }
    case "usage": {
      const usage = pick(usages, index);
      return usage ? { method: "getUsage", userId: usage.userId, usageId: usage.id } : null;
    }
  }
  const one = pick(userCoupons, index);
  if (!one) return null;
  const { userId, couponId } = one;
  const { orderId = "", productId = "" } = pick(usages, index) ?? {};
  switch (what) {
    case "userCoupon":
      return { method: "getUserCoupon", userId, userCouponId: one.id };
    case "usages": {
      const some = [{ userId }, { couponId }, { userId, couponId }, { userId, orderId }, { orderId }, {}];
      const of = [...some, { productId }, { couponId, productId }][index % 8];
      const any = { userId: "", couponId: "", productId: "", orderId: "" };
      return { method: "listUsages", ...any, ...of, showCancelled: index % 4 < 2 };
    }
    default: {
      const all = ["READY", "LOCKED", "USED", "REVOKED", "EXPIRED", "RELEASED"];
      const [showExpired, showUsages] = [what === "all", index % 2 === 0];
      return { method: "listUserCoupons", userId, showExpired, showUsages, statuses: someOf(all, index) };
    }
  }
}

/** None, which means all, or some of them. */
function someOf(statuses: readonly string[], index: number): string[] {
  return index % 3 > 0 ? [] : statuses.filter((_, position) => (index >> position) % 2 === 1);
}

function scopeOf(index: number, model: Model): Scope {
  if (index % 5 < 2)
    return [null, { type: index % 2 === 0 ? ("FREE" as const) : ("STANDARD" as const) }][index % 5] as Scope;
  const target = pick(model.state.coupons, index);
  return target ? { couponId: target.id } : null;
}
