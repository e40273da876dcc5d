import type { Part } from "./mortal.js";
import type { CouponType, Definition, Discount } from "./state.js";

/**
 * Postgres' clock stands still between steps of ten seconds and the gate's runs on from there, so that both agree on all that
 * begins or ends on a step. A life takes far less than ten seconds.
 */
export const stepMs = 10_000;

/**
 * One thing that happens in a life. Numbers choose among what there is by then: `Call`s are made of them at the last
 * moment, so that a life stays sensible when fast-check takes commands away.
 */
export type OrderCommand = {
  readonly kind: "quote" | "lock" | "use";
  readonly picks: readonly number[];
  readonly lock: LockChoice;
  readonly amount: number;
  readonly order: number;
  readonly product: number;
  /** How the codes of those that have one are written. null: all are named by their ids. */
  readonly spelling: number | null;
  readonly request: number;
  /** Of a use, by their index in `labels`. */
  readonly labels: number;
};

export interface ReadCommand {
  readonly kind: "read";
  readonly what: (typeof reads)[number];
  readonly pick: number;
}

export type Command =
  | { readonly kind: "create"; readonly facts: Facts; readonly request: number }
  /** Some of them end before they begin. */
  | { readonly kind: "createMany"; readonly facts: readonly Facts[]; readonly request: number }
  | {
      readonly kind: "issue";
      readonly by: IssueBy;
      readonly user: number;
      readonly request: number;
      readonly labels?: number;
      readonly isBlind?: boolean;
    }
  | OrderCommand
  | {
      readonly kind: "unlock";
      readonly picks: readonly number[];
      readonly lock: "own" | "stale";
      readonly spelling: number | null;
    }
  | { readonly kind: "cancel"; readonly usage: number; readonly byUserCoupon: boolean; readonly request: number }
  | {
      readonly kind: "deleteUserCoupon";
      readonly pick: number;
      readonly restock: boolean;
      readonly deleteUsed: boolean;
      readonly request: number;
    }
  | {
      readonly kind: "update";
      readonly coupon: number;
      readonly change: Change;
      readonly revision: "any" | "current" | "stale";
      readonly request: number;
    }
  | { readonly kind: "pause" | "resume"; readonly coupon: number; readonly request: number }
  | {
      readonly kind: "delete";
      readonly coupon: number;
      readonly revoke: boolean;
      readonly revision: "any" | "current" | "stale";
      readonly request: number;
    }
  | ReadCommand
  /** About what there is not, or what is another user's. */
  | { readonly kind: "strangers"; readonly which: readonly number[] }
  /** The first page of a list, which goes on with the next command of the other kind. */
  | { readonly kind: "page"; readonly list: ReadCommand; readonly size: number }
  | { readonly kind: "nextPage"; readonly size: number }
  /** The whole of a list, in one page. */
  | { readonly kind: "glance"; readonly list: ReadCommand }
  /** By one replica, which answers many of them with one query. */
  | { readonly kind: "readAtOnce"; readonly commands: readonly (ReadCommand | OrderCommand)[] }
  | {
      readonly kind: "upload";
      readonly to: { readonly book: number } | { readonly type: CouponType };
      readonly lines: readonly LineFacts[];
      readonly request: number;
    }
  | {
      readonly kind: "generate";
      readonly book: number;
      readonly stem: number;
      readonly characters: string;
      readonly count: number;
      readonly terms: TermFacts;
      readonly request: number;
    }
  | { readonly kind: "cancelJob"; readonly job: number; readonly request: number }
  | {
      readonly kind: "deleteCodes";
      readonly book: number;
      /** Whether the pool of a type is named by the type. */
      readonly byType: boolean;
      readonly which: { readonly codes: readonly number[]; readonly spelling: number } | { readonly source: number };
      readonly request: number;
    }
  | { readonly kind: "runGenerator" | "release" | "expireCodes" | "expire" }
  | { readonly kind: "purge"; readonly dryRun: boolean }
  | { readonly kind: "advance"; readonly steps: number }
  | { readonly kind: "load" | "forget"; readonly coupon: number }
  | { readonly kind: "sweep" }
  /** The gate loses its memory, if it is one that can. */
  | { readonly kind: "wipe" }
  /** A call that was made before is made once more. */
  | { readonly kind: "again"; readonly back: number }
  /** `about`: all of them are about one user coupon, if not null. `doubled`: the first one is sent twice. */
  | {
      readonly kind: "crowd";
      readonly commands: readonly Command[];
      readonly about: number | null;
      readonly doubled: boolean;
      /** What becomes of the gate meanwhile. */
      readonly meanwhile: Meanwhile;
    }
  | {
      readonly kind: "rush";
      readonly coupon: number;
      readonly users: readonly number[];
      readonly meanwhile?: Meanwhile;
    }
  /** The same as one call. */
  | {
      readonly kind: "batch";
      readonly coupon: number;
      readonly users: readonly number[];
      readonly request: number;
      readonly labels: number;
    }
  /** Many at once for the same code, for a type, and one user for all coupons of a quota group. */
  | { readonly kind: "codeRush"; readonly code: number; readonly users: readonly number[] }
  | { readonly kind: "typeRush"; readonly type: CouponType; readonly users: readonly number[] }
  | { readonly kind: "groupRush"; readonly coupon: number; readonly user: number; readonly picks: readonly number[] }
  | { readonly kind: "useAll"; readonly coupon: number; readonly meanwhile: Meanwhile }
  | { readonly kind: "lossy"; readonly crowd: Crowd; readonly lost: Lost };

/** Calls at once. */
export type Crowd = Command & {
  readonly kind: "crowd" | "rush" | "useAll" | "batch";
};

/**
 * Why callers hear nothing: their own time is over, after so many ms, null: it is not; all connections to Postgres are cut; or a
 * replica dies after it has sent so much to its stores, or loses one of them for good. What came last arrives, or it does not.
 */
export type Lost =
  | { readonly kind: "hurried"; readonly ms: readonly (number | null)[]; readonly isAtOnce: boolean }
  | { readonly kind: "cut"; readonly afterMs: number }
  | { readonly kind: "dies"; readonly part: Part; readonly afterMessages: number };

/** Times in steps; discounts by their index in `discounts`. null: no limit, or left out. */
export interface Facts {
  readonly name: number;
  readonly description: number;
  readonly category: number;
  readonly labels: number;
  readonly discount: number;
  readonly start: number | null;
  readonly end: number;
  readonly quantity: number | null;
  readonly validity: number | null;
  readonly maxPerUser: number | null;
  readonly usageCap: number | null;
  readonly stackable: boolean;
  readonly maxUses: number | null;
  readonly lock: number | null;
  readonly claim: number | null;
  readonly type: CouponType | null;
  readonly throttle: Definition["throttle"];
  readonly quota: { readonly group: number; readonly max: number } | null;
  readonly book: Definition["book"];
}

export type IssueBy =
  | { readonly coupon: number }
  /** -1: that to which the last codes were uploaded. */
  | { readonly book: number }
  /** One of the codes that there are, mostly. */
  | { readonly code: number; readonly spelling: number }
  | { readonly type: CouponType };

/** Times in steps from then. */
export interface TermFacts {
  readonly discount: number | null;
  readonly end: number | null;
  readonly maxUses: number | null;
  readonly maxHolders: number;
  /** Whether it may lack what a code of a pool needs. */
  readonly bare: boolean;
}

export interface LineFacts {
  readonly code: number;
  readonly spelling: number;
  /** What is wrong with it. */
  readonly bad: "text" | "end" | "uses" | "holders" | null;
  readonly terms: TermFacts;
}

/** `step`: the time comes at which much ends. */
export type Meanwhile = "wipe" | "load" | "forget" | "sweep" | "step" | null;
export type Change = Partial<Facts>;
export type LockChoice = "own" | "none" | "stale";

const discount = (kind: Discount["kind"], value: number, limits: Partial<Discount> = {}): Discount => {
  return { kind, value, currency: kind === "fixed" ? "USD" : null, maximum: null, minimum: null, ...limits };
};
export const discounts = [
  discount("percentage", 1_250),
  discount("percentage", 5_000, { currency: "USD", maximum: 400, minimum: 1_000 }),
  discount("percentage", 1_000, { currency: "USD", maximum: 20 }),
  discount("percentage", 10_000),
  discount("fixed", 500),
  discount("fixed", 750, { minimum: 1_000 }),
  discount("fixed", 500, { currency: "EUR" }),
];
/** Around the minimum of the discounts, and one in another currency. */
export const amounts = [
  { currency: "USD", units: 1_000 },
  { currency: "USD", units: 999 },
  { currency: "USD", units: 3_333 },
  { currency: "EUR", units: 2_000 },
];
export const names = ["model", "another name"];
export const descriptions = ["", "Another coffee", "for a Model"];
export const categories = ["", "Food", "name of a model"];
export const labels = ["", "team=growth", "city.name=Z\u00fcrich,team=growth"];
export const reads = [
  "coupon",
  "userCoupon",
  "all",
  "live",
  "usages",
  "usage",
  "codes",
  "job",
  "jobs",
  "stats",
  "coupons",
  "search",
] as const;
