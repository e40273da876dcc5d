import type { CouponType, Definition, Discount, Job, Money, Terms } from "./state.js";

/** What callers ask for, and are answered. */

/** What DeleteCodes is told: codes, or what they came by. */
export type WhichCodes =
  | { readonly codes: readonly string[] }
  | { readonly kind: "upload" | "job"; readonly id: string };

/** One line of an upload. */
export interface Line {
  readonly code: string;
  readonly terms: Terms;
}

export interface Choice {
  /** "" when it is named by its code. */
  readonly id: string;
  readonly code?: string;
  /** 0: none. */
  readonly lockVersion: number;
}

export interface Order {
  readonly userId: string;
  readonly choices: readonly Choice[];
  readonly productId: string;
  readonly orderId: string;
  /** null: not known yet. */
  readonly amount: Money | null;
  /** Of a use. */
  readonly labels?: string;
}

export type Call =
  | { readonly method: "create"; readonly definition: Definition; readonly requestId: string }
  | { readonly method: "createMany"; readonly definitions: readonly Definition[]; readonly requestId: string }
  | {
      readonly method: "update";
      readonly couponId: string;
      readonly revision: number;
      readonly change: Partial<Definition>;
      readonly requestId: string;
    }
  | { readonly method: "pause" | "resume"; readonly couponId: string; readonly requestId: string }
  | {
      readonly method: "delete";
      readonly couponId: string;
      readonly revoke: boolean;
      readonly revision: number;
      readonly requestId: string;
    }
  | { readonly method: "getCoupon"; readonly couponId: string }
  | {
      readonly method: "issue";
      readonly target: Target;
      /** Whether the caller may not read codes. */
      readonly isBlind?: boolean;
      readonly userId: string;
      readonly requestId: string;
      readonly labels?: string;
    }
  | {
      readonly method: "upload";
      readonly target: { readonly couponId: string } | { readonly type: CouponType };
      readonly lines: readonly Line[];
      readonly requestId: string;
    }
  | {
      readonly method: "generate";
      readonly couponId: string;
      readonly stem: string;
      readonly characters: string;
      readonly count: number;
      readonly terms: Terms;
      readonly requestId: string;
    }
  | { readonly method: "cancelJob"; readonly jobId: string; readonly requestId: string }
  | { readonly method: "getJob"; readonly jobId: string }
  /** "": of all. */
  | { readonly method: "listJobs"; readonly couponId: string; readonly states: readonly string[] }
  | {
      readonly method: "deleteCodes";
      readonly target: { readonly couponId: string } | { readonly type: CouponType };
      readonly which: WhichCodes;
      readonly requestId: string;
    }
  | { readonly method: "runGenerator"; readonly jobs: readonly Pick<Job, "id" | "couponId">[] }
  | { readonly method: "expireCodes" | "expire" }
  | { readonly method: "listCodes"; readonly couponId: string; readonly statuses: readonly string[] }
  | { readonly method: "listCoupons"; readonly showDeleted: boolean }
  | {
      readonly method: "searchCoupons";
      readonly query: string;
      readonly category: string;
      readonly type: CouponType | null;
      readonly discountKind: Discount["kind"] | null;
      readonly showEnded: boolean;
    }
  | { readonly method: "getStats"; readonly scope: Scope }
  | { readonly method: "purge"; readonly dryRun: boolean }
  | { readonly method: "quote"; readonly order: Order }
  | { readonly method: "lock" | "use"; readonly order: Order; readonly requestId: string }
  | { readonly method: "unlock"; readonly userId: string; readonly choices: readonly Choice[] }
  | {
      readonly method: "cancel";
      readonly userId: string;
      /** Either of them is "". */
      readonly usageId: string;
      readonly userCouponId: string;
      readonly requestId: string;
    }
  | {
      readonly method: "deleteUserCoupon";
      readonly userId: string;
      readonly userCouponId: string;
      readonly restock: boolean;
      readonly deleteUsed: boolean;
      readonly requestId: string;
    }
  | { readonly method: "getUserCoupon"; readonly userId: string; readonly userCouponId: string }
  | {
      readonly method: "listUserCoupons";
      readonly userId: string;
      readonly showExpired: boolean;
      readonly showUsages: boolean;
      readonly statuses: readonly string[];
    }
  /** "": of all. */
  | {
      readonly method: "listUsages";
      readonly userId: string;
      readonly couponId: string;
      readonly productId: string;
      readonly orderId: string;
      readonly showCancelled: boolean;
    }
  | { readonly method: "getUsage"; readonly userId: string; readonly usageId: string }
  | { readonly method: "release" }
  /** Nobody's call: time passes. */
  | { readonly method: "step" }
  /** Of a list, those after the one that is named by `after`: null for the first page. */
  | {
      readonly method: "page";
      readonly list: ListCall;
      readonly size: number;
      readonly token: string;
      readonly after: string | number | null;
    };

/** By their methods. */
export const namesOfItems = {
  listCoupons: "coupons",
  searchCoupons: "coupons",
  listUserCoupons: "userCoupons",
  listUsages: "usages",
  listCodes: "codes",
  listJobs: "jobs",
} as const;

/** In an order that nothing changes. */
export function isListed(call: Call): call is ListCall {
  return call.method in namesOfItems && call.method !== "searchCoupons";
}

/** Of whose answer may be lost: it is asked again, by its request id or because it changes nothing then. */
export function isRepeatable(call: Call): boolean {
  return "requestId" in call || call.method === "unlock";
}

/** What an earlier call has done is no answer to the same call: it is done anew, and others may have come between the two. */
export function isDoneAnew({ method }: Call): boolean {
  return method === "lock" || method === "unlock";
}

export type ListCall = Call & { method: keyof typeof namesOfItems };

export type Target = { readonly couponId: string } | { readonly code: string } | { readonly type: CouponType };

/** null: of all coupons. */
export type Scope = { readonly couponId: string } | { readonly type: CouponType } | null;

/** Plain values, so that what was answered can be held against what should have been. */
export interface Answer {
  /** The reason, when the call was refused. */
  readonly refused?: string;
  /** Of an order: every reason against each choice. */
  readonly against?: readonly (readonly string[])[];
  /** When only locks are in the way. */
  readonly retryMs?: number;
  /** It is what a caller was told who has asked again, for the first call had no clear answer. */
  readonly isRetold?: boolean;
  /** Nobody was told it. */
  readonly isUntold?: boolean;
  readonly [field: string]: unknown;
}

/** `or`: what may be answered as well, in the cases in which the contract leaves it open. */
export type Expected = Answer & { readonly or?: readonly Answer[] };
