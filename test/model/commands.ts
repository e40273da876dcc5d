import fc from "fast-check";
import type { CouponType, Definition, Discount } from "./state.js";

/**
 * Postgres' clock stands still between steps of ten seconds and the gate's runs on, so everything that depends on time
 * lies five seconds past a step. A life takes far less than that.
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
  /** How the codes of those that have one are written. null: all are named by their ids. */
  readonly spelling: number | null;
  readonly request: number;
  /** Of a use, by their index in `labels`. */
  readonly labels: number;
};

export type Command =
  | { readonly kind: "create"; readonly facts: Facts; readonly request: number }
  | {
      readonly kind: "issue";
      readonly by: IssueBy;
      readonly user: number;
      readonly request: number;
      readonly labels?: number;
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
  | { readonly kind: "delete"; readonly coupon: number; readonly revoke: boolean; readonly request: number }
  | { readonly kind: "read"; readonly what: (typeof reads)[number]; readonly pick: number }
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
    }
  | { readonly kind: "rush"; readonly coupon: number; readonly users: readonly number[] }
  /** The same as one call. */
  | { readonly kind: "batch"; readonly coupon: number; readonly users: readonly number[]; readonly request: number }
  /** Many at once for the same code, for a type, and one user for all coupons of a quota group. */
  | { readonly kind: "codeRush"; readonly code: number; readonly users: readonly number[] }
  | { readonly kind: "typeRush"; readonly type: CouponType; readonly users: readonly number[] }
  | { readonly kind: "groupRush"; readonly coupon: number; readonly user: number; readonly picks: readonly number[] }
  | { readonly kind: "useAll"; readonly coupon: number };

/** Times in steps; discounts by their index in `discounts`. null: no limit. */
export interface Facts {
  readonly name: number;
  readonly labels: number;
  readonly discount: number;
  readonly start: number;
  readonly end: number;
  readonly quantity: number | null;
  readonly validity: number | null;
  readonly maxPerUser: number;
  readonly usageCap: number | null;
  readonly stackable: boolean;
  readonly maxUses: number;
  readonly lock: number;
  readonly claim: number | null;
  readonly type: CouponType | null;
  readonly quota: { readonly group: number; readonly max: number } | null;
  readonly book: Definition["book"];
}

export type IssueBy =
  | { readonly coupon: number }
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

type Change = Partial<Facts>;
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
export const labels = ["", "team=growth", "city.name=Z\u00fcrich,team=growth"];
/** Of a lock, one may come without an amount. */
const noAmount = amounts.length;

const daySteps = 86_400_000 / stepMs;
const monthSteps = 30 * daySteps;

const coupon = fc.nat(5);
const request = fc.constantFrom(0, 0, 0, 1, 2, 3);
const picks = fc.oneof(
  { weight: 2, arbitrary: fc.tuple(fc.nat(40)) },
  { weight: 1, arbitrary: fc.array(fc.nat(40), { minLength: 2, maxLength: 3 }) },
);
const someLabels = fc.constantFrom(0, 0, 0, 1, 2);
const few = (max: number) => fc.integer({ min: 1, max });
/** null once in `freq` times. */
const orNone = (arbitrary: fc.Arbitrary<number>, freq = 2) => fc.option(arbitrary, { freq });
const fields: { [K in keyof Facts]: fc.Arbitrary<Facts[K]> } = {
  name: fc.nat(1),
  labels: someLabels,
  discount: fc.nat(discounts.length - 1),
  start: fc.constantFrom(-5, -5, -5, -5, -5, 1),
  end: fc.constantFrom(30, 30, 30, monthSteps, monthSteps, 4),
  quantity: orNone(few(6), 4),
  validity: orNone(few(4), 3),
  maxPerUser: fc.constantFrom(1, 2, 2),
  usageCap: orNone(few(4), 3),
  stackable: fc.constantFrom(true, true, true, false),
  maxUses: fc.constantFrom(1, 1, 2, 3),
  lock: few(3),
  claim: orNone(few(3), 2),
  type: fc.constantFrom<(CouponType | null)[]>(null, "FREE", "FREE", "STANDARD"),
  quota: fc.option(fc.record({ group: fc.constantFrom(0, 0, 0, 1), max: fc.constantFrom(1, 1, 2, 3) }), { freq: 2 }),
  book: fc.constantFrom<Definition["book"][]>(null, null, "folded", "folded", "exact"),
};
const createCommand = fc.record({ kind: fc.constant("create" as const), facts: fc.record(fields), request });
const lock = fc.constantFrom<LockChoice>("own", "own", "none", "none", "none", "stale");
const amount: fc.Arbitrary<number> = fc.constantFrom(0, 0, 0, 1, 1, 2, 2, 3);
const spelling = fc.option(fc.nat(3), { freq: 2 });
const orderCommand = (kinds: ("quote" | "lock" | "use")[], amountOf = amount) =>
  fc.record({
    kind: fc.constantFrom(...kinds),
    picks,
    lock,
    amount: amountOf,
    order: fc.nat(4),
    spelling,
    request,
    labels: someLabels,
  });
const { book: _, ...changeable } = fields;
const change: fc.Arbitrary<Change> = fc.oneof(
  ...Object.entries({ ...changeable, end: fc.integer({ min: -6, max: 30 }) }).map(([field, arbitrary]) =>
    (arbitrary as fc.Arbitrary<unknown>).map((value): Change => ({ [field]: value })),
  ),
  // Those that matter most to using.
  fields.usageCap.map((usageCap) => ({ usageCap })),
  fc.record({ group: fc.constant(0), max: few(3) }).map((quota) => ({ quota })),
  fields.discount.map((chosen) => ({ discount: chosen })),
  fields.discount.map((chosen) => ({ discount: chosen })),
);

const type = fc.constantFrom<CouponType[]>("FREE", "FREE", "STANDARD");
const issueBy: fc.Arbitrary<IssueBy> = fc.oneof(
  { weight: 5, arbitrary: fc.record({ coupon }) },
  { weight: 4, arbitrary: fc.record({ code: fc.nat(40), spelling: fc.nat(3) }) },
  { weight: 2, arbitrary: fc.record({ type }) },
);
const terms: fc.Arbitrary<TermFacts> = fc.record({
  discount: orNone(fc.nat(discounts.length - 1)),
  end: orNone(fc.constantFrom(1, 2, 2, 3, 8, daySteps + 10), 2),
  maxUses: orNone(few(3)),
  maxHolders: fc.constantFrom(1, 1, 1, 2, 3),
  bare: fc.nat(11).map((one) => one === 11),
});
const upload = fc.record({
  kind: fc.constant("upload" as const),
  to: fc.oneof(
    { weight: 5, arbitrary: fc.record({ book: fc.nat(20) }) },
    { weight: 2, arbitrary: fc.record({ type }) },
  ),
  lines: fc.array(
    fc.record({
      code: fc.nat(15),
      spelling: fc.nat(3),
      bad: fc.oneof(
        { weight: 4, arbitrary: fc.constant(null) },
        { weight: 1, arbitrary: fc.constantFrom("text" as const, "end" as const, "uses" as const, "holders" as const) },
      ),
      terms,
    }),
    { minLength: 2, maxLength: 6 },
  ),
  request,
});

/** What one caller may do while others do the like. */
const callCommands = {
  issue: fc.record({ kind: fc.constant("issue" as const), by: issueBy, user: fc.nat(3), request, labels: someLabels }),
  upload,
  expireCodes: fc.record({ kind: fc.constant("expireCodes" as const) }),
  expire: fc.record({ kind: fc.constant("expire" as const) }),
  use: orderCommand(["use"]),
  lock: orderCommand(["lock"], fc.constantFrom(0, 0, 2, 3, noAmount, noAmount)),
  unlock: fc.record({
    kind: fc.constant("unlock" as const),
    picks,
    lock: fc.constantFrom("own" as const, "own" as const, "stale" as const),
    spelling,
  }),
  cancel: fc.record({ kind: fc.constant("cancel" as const), usage: fc.nat(40), byUserCoupon: fc.boolean(), request }),
  deleteUserCoupon: fc.record({
    kind: fc.constant("deleteUserCoupon" as const),
    pick: fc.nat(40),
    restock: fc.boolean(),
    deleteUsed: fc.boolean(),
    request,
  }),
  update: fc.record({
    kind: fc.constant("update" as const),
    coupon,
    change,
    revision: fc.constantFrom("any" as const, "any" as const, "current" as const, "stale" as const),
    request,
  }),
  pause: fc.record({ kind: fc.constantFrom("pause" as const, "pause" as const, "resume" as const), coupon, request }),
  delete: fc.record({ kind: fc.constant("delete" as const), coupon, revoke: fc.boolean(), request }),
  release: fc.record({ kind: fc.constant("release" as const) }),
};
const weighted = (weights: Partial<Record<keyof typeof callCommands, number>>) =>
  Object.entries(weights).map(([name, weight]) => ({
    weight,
    arbitrary: callCommands[name as keyof typeof callCommands] as fc.Arbitrary<Command>,
  }));
const crowd = fc.record({
  kind: fc.constant("crowd" as const),
  commands: fc.array(
    fc.oneof(
      ...weighted({
        issue: 3,
        use: 9,
        lock: 4,
        unlock: 1,
        cancel: 3,
        deleteUserCoupon: 3,
        update: 3,
        delete: 1,
        release: 1,
        upload: 1,
        expireCodes: 1,
        expire: 1,
      }),
    ),
    { minLength: 2, maxLength: 6 },
  ),
  about: fc.option(fc.nat(40), { freq: 2 }),
  doubled: fc.boolean(),
});
const rush = fc.record({
  kind: fc.constant("rush" as const),
  coupon,
  users: fc.array(fc.nat(4), { minLength: 2, maxLength: 10 }),
});
const users = fc.array(fc.nat(4), { minLength: 2, maxLength: 8 });
const otherRushes: fc.Arbitrary<Command> = fc.oneof(
  fc.record({ kind: fc.constant("batch" as const), coupon, users, request }),
  fc.record({ kind: fc.constant("codeRush" as const), code: fc.nat(40), users }),
  fc.record({ kind: fc.constant("typeRush" as const), type, users }),
  fc.record({
    kind: fc.constant("groupRush" as const),
    coupon,
    user: fc.nat(3),
    picks: fc.array(fc.nat(5), { minLength: 2, maxLength: 6 }),
  }),
);
const reads = ["coupon", "userCoupon", "all", "live", "usages", "codes", "stats"] as const;
const generate = fc.record({
  kind: fc.constant("generate" as const),
  book: fc.nat(20),
  stem: fc.nat(1),
  characters: fc.constantFrom("xyz", "xy", "xy", "xX"),
  count: fc.constantFrom(1, 2, 2, 3),
  terms,
  request,
});
const command: fc.Arbitrary<Command> = fc.oneof(
  { weight: 1, arbitrary: createCommand },
  ...weighted({
    issue: 16,
    use: 12,
    upload: 4,
    expireCodes: 2,
    expire: 2,
    lock: 7,
    unlock: 2,
    cancel: 5,
    deleteUserCoupon: 3,
    update: 3,
    pause: 3,
    delete: 1,
    release: 3,
  }),
  { weight: 4, arbitrary: orderCommand(["quote"]) },
  { weight: 4, arbitrary: fc.record({ kind: fc.constant("advance" as const), steps: few(2) }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant("purge" as const), dryRun: fc.boolean() }) },
  { weight: 1, arbitrary: generate },
  { weight: 1, arbitrary: fc.constant({ kind: "runGenerator" as const }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant("wipe" as const) }) },
  { weight: 4, arbitrary: otherRushes },
  {
    weight: 4,
    arbitrary: fc.record({ kind: fc.constant("read" as const), what: fc.constantFrom(...reads), pick: fc.nat(40) }),
  },
  { weight: 8, arbitrary: fc.record({ kind: fc.constant("load" as const), coupon }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant("forget" as const), coupon }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant("sweep" as const) }) },
  { weight: 4, arbitrary: fc.record({ kind: fc.constant("again" as const), back: fc.nat(6) }) },
  { weight: 5, arbitrary: crowd },
  { weight: 2, arbitrary: rush },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant("useAll" as const), coupon }) },
);
const rounds = fc
  .subarray(["expire", "expireCodes", "release"] as const)
  .map((kinds) => kinds.map((kind) => ({ kind })));
const purges = fc.subarray([true, false]).map((runs) => runs.map((dryRun) => ({ kind: "purge" as const, dryRun })));
/** One user gets a code twice, and names it then. */
const twice = fc
  .tuple(fc.nat(40), fc.nat(3), orderCommand(["quote", "use"]), fc.array(orderCommand(["quote"]), { maxLength: 2 }))
  .map(([code, user, first, others]): Command[] => {
    const issue = { kind: "issue" as const, by: { code, spelling: 0 }, user, request: 0 };
    const orders = [first, ...others].map((one) => ({ ...one, picks: [-1], spelling: 0 }));
    return [issue, { kind: "advance", steps: 1 }, issue, ...orders];
  });
const pausedOfType = fc.tuple(coupon, type, fc.nat(3)).map(([paused, ofType, user]): Command[] => {
  const issue = { kind: "issue" as const, by: { type: ofType }, user, request: 0 };
  return [{ kind: "pause", coupon: paused, request: 0 }, issue, issue];
});
/** One user holds three coupons, and uses, locks and cancels them for one order in several calls, some of them at once. */
const ofOneOrder = orderCommand(["use", "use", "use", "lock", "quote"], fc.constantFrom(0, 0, 0, 0, 0, 2, 3));
const orderStep = fc
  .tuple(ofOneOrder, fc.constantFrom([-1], [-2], [-3], [-1, -1], [-2, -1]))
  .map(([one, chosen]) => ({ ...one, order: 2, picks: chosen, spelling: null }));
const cancelStep = fc.record({
  ...{ kind: fc.constant("cancel" as const), usage: fc.constantFrom(-1, -2), request },
  byUserCoupon: fc.boolean(),
});
const oneOrder = fc
  .tuple(
    fc.array(fc.tuple(fields.discount, fields.stackable, fields.maxUses), { minLength: 3, maxLength: 3 }),
    fc.nat(3),
    fc.array(
      fc.oneof(
        { weight: 4, arbitrary: orderStep },
        { weight: 1, arbitrary: cancelStep },
        {
          weight: 3,
          arbitrary: fc.record({
            kind: fc.constant("crowd" as const),
            commands: fc.array(fc.oneof({ weight: 4, arbitrary: orderStep }, { weight: 1, arbitrary: cancelStep }), {
              minLength: 2,
              maxLength: 4,
            }),
            ...{ about: fc.constant(null), doubled: fc.boolean() },
          }),
        },
      ),
      { minLength: 2, maxLength: 6 },
    ),
  )
  .map(([coupons, user, steps]): Command[] => [
    ...coupons.map(([discount, stackable, maxUses]): Command => {
      const limits = { quantity: null, maxPerUser: 1, usageCap: null, quota: null, claim: null, validity: null };
      const facts = {
        ...limits,
        discount,
        stackable,
        maxUses,
        start: -1,
        end: 100_000,
        lock: 3,
        type: null,
        book: null,
        name: 0,
        labels: 0,
      };
      return { kind: "create", facts, request: 0 };
    }),
    ...[-1, -2, -3].map((nth): Command => ({ kind: "issue", by: { coupon: nth }, user, request: 0 })),
    ...steps,
  ]);
/** What belongs together, or would seldom come together. */
const chapter: fc.Arbitrary<Command[]> = fc.oneof(
  { weight: 26, arbitrary: command.map((one) => [one]) },
  { weight: 1, arbitrary: generate.map((one) => [one, { kind: "runGenerator" as const }]) },
  { weight: 1, arbitrary: twice },
  { weight: 1, arbitrary: pausedOfType },
  { weight: 2, arbitrary: oneOrder },
  {
    weight: 1,
    arbitrary: fc
      .tuple(rounds, rounds, purges)
      .map(([before, after, last]) => [
        ...before,
        { kind: "advance" as const, steps: daySteps + 1 },
        ...after,
        ...last,
      ]),
  },
);
/** A coupon, some of it in users' hands, and what comes then. */
export const lives: fc.Arbitrary<Command[]> = fc.noBias(
  fc
    .tuple(
      createCommand,
      fc.array(createCommand, { minLength: 1, maxLength: 3 }),
      fc.array(upload, { minLength: 2, maxLength: 4 }),
      fc.array(rush, { minLength: 1, maxLength: 3 }),
      fc.array(chapter, { maxLength: 40, size: "max" }),
    )
    .map(([first, others, uploads, issues, rest]): Command[] => [
      first,
      ...others,
      ...uploads,
      ...issues,
      ...rest.flat(),
    ]),
);
