import type { Answer, Call, Order } from "./call.js";
import { pick } from "./orders-of.js";
import type { State } from "./state.js";

const unknown = "01890000-0000-7000-8000-000000000000";
const noTerms = { discount: null, expiresAt: null, maxUses: null, maxHolders: 1 };
const order = { productId: "product-0", orderId: "order-of-a-stranger", amount: { currency: "USD", units: 1_000 } };

/** Calls about what there is not, and what each is answered. They change nothing. */
function callsAboutNothing(userId: string): [Call, Answer][] {
  const [couponId, target, requestId] = [unknown, { couponId: unknown }, ""];
  const issue = { method: "issue" as const, userId, requestId };
  const toCoupon: Call[] = [
    { method: "getCoupon", couponId },
    { method: "update", couponId, revision: 0, change: { name: "of nothing" }, requestId },
    { method: "pause", couponId, requestId },
    { method: "resume", couponId, requestId },
    { method: "delete", couponId, revoke: true, revision: 0, requestId },
    { ...issue, target },
    { ...issue, target, requestId: "of a stranger" },
    { method: "upload", target, lines: [{ code: "NOTHING-1", terms: noTerms }], requestId },
    { method: "generate", couponId, stem: "NOTHING-", characters: "xy", count: 1, terms: noTerms, requestId },
    { method: "deleteCodes", target, which: { codes: ["NOTHING-1"] }, requestId },
    { method: "listCodes", couponId, statuses: [] },
    { method: "getStats", scope: target },
  ];
  const of = { userId, couponId: "", productId: "", orderId: "", showCancelled: true };
  return [
    ...toCoupon.map((call): [Call, Answer] => [call, { refused: "COUPON_NOT_FOUND" }]),
    [{ ...issue, target: { code: "NOTHING-1" } }, { refused: "CODE_NOT_FOUND" }],
    [{ method: "getJob", jobId: unknown }, { refused: "CODE_JOB_NOT_FOUND" }],
    [{ method: "cancelJob", jobId: unknown, requestId }, { refused: "CODE_JOB_NOT_FOUND" }],
    [{ method: "listJobs", couponId, states: [] }, { jobs: [] }],
    [{ method: "listUsages", ...of, userId: "", couponId }, { usages: [] }],
    [{ method: "listUsages", ...of, userId: "nobody" }, { usages: [] }],
    [
      { method: "listUserCoupons", userId: "nobody", showExpired: true, showUsages: true, statuses: [] },
      { userCoupons: [] },
    ],
    ...callsOfStranger(userId, unknown, unknown),
  ];
}

/** The same about a user coupon and a usage that another user has, or nobody. */
function callsOfStranger(userId: string, id: string, usageId: string): [Call, Answer][] {
  const requestId = "";
  const choices = [{ id, lockVersion: 0 }];
  const asked: Order = { ...order, userId, choices };
  const none = { refused: "USER_COUPON_NOT_FOUND" };
  const notTheirs = { ...none, against: [["USER_COUPON_NOT_FOUND"]] };
  const noUsage = { refused: "USAGE_NOT_FOUND" };
  const cancel = { method: "cancel" as const, userId, requestId };
  return [
    [{ method: "getUserCoupon", userId, userCouponId: id }, none],
    [{ method: "deleteUserCoupon", userId, userCouponId: id, restock: true, deleteUsed: true, requestId }, none],
    [{ method: "lock", order: asked, requestId }, notTheirs],
    [{ method: "use", order: asked, requestId }, notTheirs],
    [{ method: "unlock", userId, choices: [{ id, lockVersion: 1 }] }, none],
    [{ ...cancel, usageId, userCouponId: "" }, noUsage],
    [{ ...cancel, usageId: "", userCouponId: id }, noUsage],
    [{ method: "getUsage", userId, usageId }, noUsage],
  ];
}

/** A call that is about nothing, or nothing of the caller's, and its answer. */
export function strangeCall({ userCoupons, usages }: State, nth: number): [Call, Answer] {
  const userId = "stranger";
  const held = pick(userCoupons, nth);
  const used = pick(usages, nth);
  const all = [...callsAboutNothing(userId), ...(held ? callsOfStranger(userId, held.id, used?.id ?? unknown) : [])];
  return pick(all, nth) as [Call, Answer];
}
