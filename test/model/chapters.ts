import fc from "fast-check";
import type { Command, Crowd, Lost } from "./commands.js";
import {
  batch,
  callCommands,
  command,
  coupon,
  crowd,
  generate,
  lockRush,
  meanwhile,
  orderCommand,
  rush,
  upload,
  useAll,
} from "./some-commands.js";
import { createCommand, daySteps, fields, request, type } from "./some-definitions.js";

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
            ...{ about: fc.constant(null), doubled: fc.boolean(), meanwhile },
          }),
        },
      ),
      { minLength: 2, maxLength: 6 },
    ),
  )
  .map(([coupons, user, steps]): Command[] => [
    ...coupons.map(([discount, stackable, maxUses]): Command => {
      const limits = {
        quantity: null,
        maxPerUser: 1,
        usageCap: null,
        throttle: null,
        quota: null,
        claim: null,
        validity: null,
      };
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
        ...{ name: 0, description: 0, category: 0 },
        labels: 0,
      };
      return { kind: "create", facts, request: 0 };
    }),
    ...[-1, -2, -3].map((nth): Command => ({ kind: "issue", by: { coupon: nth }, user, request: 0 })),
    ...steps,
  ]);
/** Codes are taken back while they are issued: all of the last upload, or some that are named. */
const takenWhileIssued = fc
  .tuple(
    upload,
    fc.array(fc.tuple(fc.nat(3), fc.boolean(), fc.nat(4)), { minLength: 1, maxLength: 5 }),
    fc.array(callCommands.deleteCodes, { minLength: 1, maxLength: 2 }),
    fc.boolean(),
    meanwhile,
  )
  .map(([one, issues, taken, isAll, during]): Command[] => [
    one,
    {
      kind: "crowd",
      commands: [
        ...issues.map(
          ([user, byCode, nth]): Command => ({
            ...{ kind: "issue", user, request: 0 },
            by: byCode ? { code: -1 - nth, spelling: 0 } : { book: -1 },
          }),
        ),
        ...taken.map((each): Command => ({ ...each, ...(isAll && { which: { source: -2 } }) })),
      ],
      ...{ about: null, doubled: false, meanwhile: during },
    },
    { kind: "issue", by: { book: -1 }, user: 4, request: 0 },
  ]);
/** A code is given back, deleted, and added to another book, and what was asked of it is asked again meanwhile. */
const again = fc
  .array(fc.nat(2), { minLength: 1, maxLength: 2 })
  .map((backs) => backs.map((back): Command => ({ kind: "again", back })));
const movedCode = fc
  .tuple(
    upload,
    orderCommand(["use"]),
    fc.record({
      isUsed: fc.boolean(),
      isReleased: fc.boolean(),
      ...{ user: fc.nat(3), spelling: fc.nat(3), number: fc.integer({ min: 100, max: 1_000_000 }), book: fc.nat(20) },
    }),
    again,
    again,
  )
  .map(([one, use, { isUsed, isReleased, user, spelling, number, book }, then, last]): Command[] => {
    const added = { ...one, request: 0 };
    const used = { ...use, picks: [-1], spelling, lock: "own" as const, request: number + 1 };
    const cancelled = { kind: "cancel" as const, usage: -1, byUserCoupon: false, request: 0 };
    const deleted = { kind: "deleteUserCoupon" as const, pick: -1, restock: true, deleteUsed: true, request: 0 };
    const named = { book: 0, byType: false, which: { source: -2 }, request: 0 };
    return [
      added,
      { kind: "issue", by: { code: -1, spelling }, user, request: number },
      ...(isUsed ? [used, cancelled] : []),
      ...(isReleased ? [{ kind: "advance", steps: 3 } as const, { kind: "release" } as const] : [deleted]),
      { kind: "deleteCodes", ...named },
      ...then,
      { ...added, to: { book } },
      ...last,
    ];
  });
/** What becomes of a job: it is cancelled before or after it has run, and its codes are taken back. */
const madeThen = fc
  .tuple(fc.subarray([0, 1, 1, 2, 3]), callCommands.cancelJob, callCommands.deleteCodes)
  .map(([parts, cancel, taken]): Command[] => {
    const cancelLast = { ...cancel, job: -1 };
    const all: Command[] = [cancelLast, { kind: "runGenerator" }, cancelLast, { ...taken, which: { source: -1 } }];
    return parts.map((part) => all[part] as Command);
  });
/** A crowd, some of whom hear nothing and ask again. */
const lost: fc.Arbitrary<Lost> = fc.oneof(
  {
    weight: 3,
    arbitrary: fc.record({
      kind: fc.constant("hurried" as const),
      ms: fc.array(fc.option(fc.nat(25), { freq: 4 }), { minLength: 1, maxLength: 5 }),
      isAtOnce: fc.boolean(),
    }),
  },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant("cut" as const), afterMs: fc.nat(12) }) },
  {
    weight: 3,
    arbitrary: fc.record({
      ...{ kind: fc.constant("dies" as const), afterMessages: fc.nat(30) },
      part: fc.constantFrom("all" as const, "all" as const, "postgres" as const, "redis" as const),
    }),
  },
);
const lossy = fc
  .tuple(fc.oneof({ weight: 2, arbitrary: crowd }, rush, useAll, batch, lockRush), lost)
  .map(([one, how]): Command[] => [{ kind: "lossy", crowd: one as Crowd, lost: how }]);
/** A list is gone through while what is in it changes. */
const pages = fc
  .tuple(
    fc.record({
      kind: fc.constant("read" as const),
      what: fc.constantFrom(
        "all" as const,
        "live" as const,
        "usages" as const,
        "codes" as const,
        "jobs" as const,
        "coupons" as const,
      ),
      pick: fc.nat(40),
    }),
    fc.integer({ min: 1, max: 3 }),
    fc.array(fc.tuple(fc.array(command, { minLength: 1, maxLength: 3 }), fc.integer({ min: 1, max: 4 })), {
      minLength: 1,
      maxLength: 3,
    }),
  )
  .map(([list, size, steps]): Command[] => [
    { kind: "page", list, size },
    ...steps.flatMap(([between, next]): Command[] => [...between, { kind: "nextPage", size: next }]),
  ]);
/** What belongs together, or would seldom come together. */
const chapter: fc.Arbitrary<Command[]> = fc.oneof(
  { weight: 26, arbitrary: command.map((one) => [one]) },
  { weight: 2, arbitrary: fc.tuple(generate, madeThen).map(([one, then]) => [one, ...then]) },
  { weight: 1, arbitrary: takenWhileIssued },
  { weight: 1, arbitrary: movedCode },
  { weight: 2, arbitrary: lossy },
  { weight: 2, arbitrary: pages },
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
