import fc from "fast-check";
import {
  amounts,
  type Command,
  discounts,
  type IssueBy,
  type LockChoice,
  type Meanwhile,
  reads,
  type TermFacts,
} from "./commands.js";
import {
  change,
  createCommand,
  createMany,
  daySteps,
  few,
  orNone,
  request,
  revision,
  someLabels,
  type,
} from "./some-definitions.js";

/** Any command, with the frequencies that make lives in which much happens. */

/** Of a lock, one may come without an amount. */
const noAmount = amounts.length;

export const coupon = fc.nat(5);
const picks = fc.oneof(
  { weight: 2, arbitrary: fc.tuple(fc.nat(40)) },
  { weight: 1, arbitrary: fc.array(fc.nat(40), { minLength: 2, maxLength: 3 }) },
);
const lock = fc.constantFrom<LockChoice>("own", "own", "none", "none", "none", "stale");
const amount: fc.Arbitrary<number> = fc.constantFrom(0, 0, 0, 1, 1, 2, 2, 3);
const spelling = fc.option(fc.nat(3), { freq: 2 });
export const orderCommand = (kinds: ("quote" | "lock" | "use")[], amountOf = amount) =>
  fc.record({
    kind: fc.constantFrom(...kinds),
    picks,
    lock,
    amount: amountOf,
    order: fc.nat(4),
    product: fc.constantFrom(0, 0, 0, 1),
    spelling,
    request,
    labels: someLabels,
  });
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
export const upload = fc.record({
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

const deleteCodes = fc.record({
  kind: fc.constant("deleteCodes" as const),
  book: fc.nat(20),
  byType: fc.boolean(),
  which: fc.oneof(
    fc.record({ codes: fc.array(fc.nat(20), { minLength: 1, maxLength: 4 }), spelling: fc.nat(3) }),
    fc.record({ source: fc.nat(20) }),
  ),
  request,
});

/** What one caller may do while others do the like. */
export const callCommands = {
  issue: fc.record({
    ...{ kind: fc.constant("issue" as const), by: issueBy, user: fc.nat(3), request, labels: someLabels },
    isBlind: fc.constantFrom(false, false, true),
  }),
  upload,
  deleteCodes,
  cancelJob: fc.record({ kind: fc.constant("cancelJob" as const), job: fc.nat(20), request }),
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
    revision,
    request,
  }),
  pause: fc.record({ kind: fc.constantFrom("pause" as const, "pause" as const, "resume" as const), coupon, request }),
  delete: fc.record({ kind: fc.constant("delete" as const), coupon, revoke: fc.boolean(), revision, request }),
  release: fc.record({ kind: fc.constant("release" as const) }),
};
const weighted = (weights: Partial<Record<keyof typeof callCommands, number>>) =>
  Object.entries(weights).map(([name, weight]) => ({
    weight,
    arbitrary: callCommands[name as keyof typeof callCommands] as fc.Arbitrary<Command>,
  }));
export const meanwhile = fc.constantFrom<Meanwhile[]>(
  ...[null, null, null, null],
  ...(["wipe", "load", "forget", "sweep", "step"] as const),
);
const read = fc.record({ kind: fc.constant("read" as const), what: fc.constantFrom(...reads), pick: fc.nat(40) });
const glance = fc.record({ kind: fc.constant("glance" as const), list: read });
export const crowd = fc.record({
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
        deleteCodes: 1,
        expireCodes: 1,
        expire: 1,
        pause: 1,
        cancelJob: 1,
      }),
      { weight: 1, arbitrary: fc.oneof(createCommand, createMany) },
      { weight: 3, arbitrary: glance },
    ),
    { minLength: 2, maxLength: 6 },
  ),
  about: fc.option(fc.nat(40), { freq: 2 }),
  ...{ doubled: fc.boolean(), meanwhile },
});
/** One user coupon, or several, for which all come who want to lock them. */
export const lockRush = fc.record({
  kind: fc.constant("crowd" as const),
  commands: fc.array(fc.oneof(...weighted({ lock: 4, unlock: 2, use: 1, deleteUserCoupon: 1 })), {
    minLength: 2,
    maxLength: 5,
  }),
  about: fc.option(fc.nat(40), { freq: 2 }),
  ...{ doubled: fc.boolean(), meanwhile: fc.constant(null) },
});
export const rush = fc.record({
  kind: fc.constant("rush" as const),
  coupon,
  users: fc.array(fc.nat(4), { minLength: 2, maxLength: 10 }),
  meanwhile,
});
export const useAll = fc.record({ kind: fc.constant("useAll" as const), coupon, meanwhile });
const users = fc.array(fc.nat(4), { minLength: 2, maxLength: 8 });
export const batch = fc.record({ kind: fc.constant("batch" as const), coupon, users, request, labels: someLabels });
const otherRushes: fc.Arbitrary<Command> = fc.oneof(
  batch,
  fc.record({ kind: fc.constant("codeRush" as const), code: fc.nat(40), users }),
  fc.record({ kind: fc.constant("typeRush" as const), type, users }),
  fc.record({
    kind: fc.constant("groupRush" as const),
    coupon,
    user: fc.nat(3),
    picks: fc.array(fc.nat(5), { minLength: 2, maxLength: 6 }),
  }),
);
export const generate = fc.record({
  kind: fc.constant("generate" as const),
  book: fc.nat(20),
  stem: fc.nat(1),
  characters: fc.constantFrom("xyz", "xy", "xy", "xX"),
  count: fc.constantFrom(1, 2, 2, 3),
  terms,
  request,
});
const strangers = fc.record({
  kind: fc.constant("strangers" as const),
  which: fc.array(fc.nat(1_000), { minLength: 3, maxLength: 8 }),
});
export const command: fc.Arbitrary<Command> = fc.oneof(
  { weight: 1, arbitrary: fc.oneof(createCommand, createMany) },
  ...weighted({
    issue: 16,
    use: 12,
    upload: 4,
    deleteCodes: 4,
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
  { weight: 4, arbitrary: read },
  { weight: 3, arbitrary: strangers },
  {
    weight: 3,
    arbitrary: fc.record({
      kind: fc.constant("readAtOnce" as const),
      commands: fc.array(fc.oneof({ weight: 3, arbitrary: read }, { weight: 2, arbitrary: orderCommand(["quote"]) }), {
        minLength: 2,
        maxLength: 8,
      }),
    }),
  },
  { weight: 8, arbitrary: fc.record({ kind: fc.constant("load" as const), coupon }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant("forget" as const), coupon }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant("sweep" as const) }) },
  { weight: 4, arbitrary: fc.record({ kind: fc.constant("again" as const), back: fc.nat(6) }) },
  { weight: 5, arbitrary: crowd },
  { weight: 2, arbitrary: rush },
  { weight: 2, arbitrary: useAll },
);
