import fc from "fast-check";
import { Model } from "./model.js";
import type { Call, Choice, Definition, Discount, Order, UserCoupon } from "./state.js";

/**
 * Postgres' clock stands still between steps of ten seconds and the gate's runs on, so everything that depends on time
 * lies five seconds past a step. A life takes far less than that.
 */
export const stepMs = 10_000;

/**
 * One thing that happens in a life. Numbers choose among what there is by then: `Call`s are made of them at the last
 * moment, so that a life stays sensible when fast-check takes commands away.
 */
type OrderCommand = {
  readonly kind: "quote" | "lock" | "use";
  readonly picks: readonly number[];
  readonly lock: LockChoice;
  readonly amount: number;
  readonly order: number;
  readonly request: number;
};

export type Command =
  | { readonly kind: "create"; readonly facts: Facts; readonly request: number }
  | { readonly kind: "issue"; readonly coupon: number; readonly user: number; readonly request: number }
  | OrderCommand
  | { readonly kind: "unlock"; readonly picks: readonly number[]; readonly lock: "own" | "stale" }
  | { readonly kind: "cancel"; readonly usage: number; readonly request: number }
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
  | { readonly kind: "read"; readonly what: "coupon" | "userCoupon" | "all" | "live" | "usages"; readonly pick: number }
  | { readonly kind: "release" }
  | { readonly kind: "advance"; readonly steps: number }
  | { readonly kind: "load" | "forget"; readonly coupon: number }
  | { readonly kind: "sweep" }
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
  | { readonly kind: "useAll"; readonly coupon: number };

/** Times in steps; discounts by their place in `discounts`. null: no limit. */
export interface Facts {
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
}

type Change = Partial<Facts>;
type LockChoice = "own" | "none" | "stale";

const discount = (kind: Discount["kind"], value: number, limits: Partial<Discount> = {}): Discount => {
  return { kind, value, currency: kind === "fixed" ? "USD" : null, maximum: null, minimum: null, ...limits };
};
const discounts = [
  discount("percentage", 1_250),
  discount("percentage", 5_000, { currency: "USD", maximum: 400, minimum: 1_000 }),
  discount("percentage", 1_000, { currency: "USD", maximum: 20 }),
  discount("percentage", 10_000),
  discount("fixed", 500),
  discount("fixed", 750, { minimum: 1_000 }),
  discount("fixed", 500, { currency: "EUR" }),
];
/** Around the minimum of the discounts, and one in another currency. */
const amounts = [
  { currency: "USD", units: 1_000 },
  { currency: "USD", units: 999 },
  { currency: "USD", units: 3_333 },
  { currency: "EUR", units: 2_000 },
];
/** Of a lock, one may come without an amount. */
const noAmount = amounts.length;

const coupon = fc.nat(5);
const request = fc.constantFrom(0, 0, 0, 1, 2, 3);
const picks = fc.oneof(
  { weight: 2, arbitrary: fc.tuple(fc.nat(40)) },
  { weight: 1, arbitrary: fc.array(fc.nat(40), { minLength: 2, maxLength: 3 }) },
);
const few = (max: number) => fc.integer({ min: 1, max });
const orNone = (arbitrary: fc.Arbitrary<number>, freq = 2) => fc.option(arbitrary, { freq });
const fields: { [K in keyof Facts]: fc.Arbitrary<Facts[K]> } = {
  discount: fc.nat(discounts.length - 1),
  start: fc.constantFrom(-5, -5, -5, -5, -5, 1),
  end: fc.constantFrom(30, 30, 30, 30, 4),
  quantity: orNone(few(6), 4),
  validity: orNone(few(4), 1),
  maxPerUser: fc.constantFrom(1, 2, 2),
  usageCap: orNone(few(4), 3),
  stackable: fc.constantFrom(true, true, true, false),
  maxUses: fc.constantFrom(1, 1, 2, 3),
  lock: few(3),
  claim: orNone(few(3), 2),
};
const createCommand = fc.record({ kind: fc.constant("create" as const), facts: fc.record(fields), request });
const lock = fc.constantFrom<LockChoice>("own", "own", "none", "none", "none", "stale");
const amount: fc.Arbitrary<number> = fc.constantFrom(0, 0, 0, 1, 1, 2, 2, 3);
const orderCommand = (kinds: ("quote" | "lock" | "use")[], amountOf = amount) =>
  fc.record({ kind: fc.constantFrom(...kinds), picks, lock, amount: amountOf, order: fc.nat(1), request });
const change: fc.Arbitrary<Change> = fc.oneof(
  ...Object.entries({ ...fields, end: fc.integer({ min: -6, max: 30 }) }).map(([field, arbitrary]) =>
    (arbitrary as fc.Arbitrary<unknown>).map((value): Change => ({ [field]: value })),
  ),
  // Those that matter most to using.
  fields.usageCap.map((usageCap) => ({ usageCap })),
  fields.discount.map((chosen) => ({ discount: chosen })),
  fields.discount.map((chosen) => ({ discount: chosen })),
);

/** What one caller may do while others do the like. */
const callCommands = {
  issue: fc.record({ kind: fc.constant("issue" as const), coupon, user: fc.nat(3), request }),
  use: orderCommand(["use"]),
  lock: orderCommand(["lock"], fc.constantFrom(0, 0, 2, 3, noAmount, noAmount)),
  unlock: fc.record({
    kind: fc.constant("unlock" as const),
    picks,
    lock: fc.constantFrom("own" as const, "own" as const, "stale" as const),
  }),
  cancel: fc.record({ kind: fc.constant("cancel" as const), usage: fc.nat(40), request }),
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
  pause: fc.record({ kind: fc.constantFrom("pause" as const, "resume" as const), coupon, request }),
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
const reads = ["coupon", "userCoupon", "all", "live", "usages"] as const;
const command: fc.Arbitrary<Command> = fc.oneof(
  { weight: 1, arbitrary: createCommand },
  ...weighted({
    issue: 12,
    use: 12,
    lock: 7,
    unlock: 2,
    cancel: 5,
    deleteUserCoupon: 3,
    update: 3,
    pause: 1,
    delete: 1,
    release: 3,
  }),
  { weight: 4, arbitrary: orderCommand(["quote"]) },
  { weight: 4, arbitrary: fc.record({ kind: fc.constant("advance" as const), steps: few(2) }) },
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
/** A coupon, some of it in users' hands, and what comes then. */
export const lives: fc.Arbitrary<Command[]> = fc.noBias(
  fc
    .tuple(
      createCommand,
      fc.array(createCommand, { maxLength: 2 }),
      fc.array(rush, { minLength: 1, maxLength: 3 }),
      fc.array(command, { maxLength: 40, size: "max" }),
    )
    .map(([first, others, issues, rest]): Command[] => [first, ...others, ...issues, ...rest]),
);

/** The call that a command stands for in a life that has come to `model`; null when there is nothing to do it to. */
export function callOf(command: Command, model: Model, life: Life): Call | null {
  const { coupons, usages } = model.state;
  switch (command.kind) {
    case "create":
      return {
        method: "create",
        definition: life.definitionOf(command.facts) as Definition,
        requestId: life.requestId(command.request),
      };
    case "quote":
    case "lock":
    case "use":
      return orderCall(command, model, life);
    case "unlock": {
      const chosen = choose(model, command.picks);
      const [first] = chosen;
      if (!first) return null;
      // A lock's version cannot be 0 here.
      const choices = choicesOf(model, chosen, command.lock).map((one) => ({
        ...one,
        lockVersion: one.lockVersion || 1,
      }));
      return { method: "unlock", userId: first.userId, choices };
    }
    case "again": {
      const repeatable = life.made.filter((one) => "requestId" in one && one.requestId !== "");
      return repeatable.at(-1 - command.back) ?? null;
    }
    case "cancel": {
      const standing = usages.filter(({ cancelledAt }) => cancelledAt === null);
      const usage = pick(command.usage % 4 > 0 && standing.length > 0 ? standing : usages, command.usage);
      if (!usage) return null;
      return { method: "cancel", userId: usage.userId, usageId: usage.id, requestId: life.requestId(command.request) };
    }
    case "deleteUserCoupon": {
      const [one] = choose(model, [command.pick]);
      if (!one) return null;
      const { restock, deleteUsed } = command;
      const requestId = life.requestId(command.request);
      return { method: "deleteUserCoupon", userId: one.userId, userCouponId: one.id, restock, deleteUsed, requestId };
    }
    case "read":
      return readCall(command, model);
    case "release":
      return { method: "release" };
    case "issue":
    case "update":
    case "pause":
    case "resume":
    case "delete": {
      const target = pick(coupons, command.coupon);
      if (!target) return null;
      const [couponId, requestId] = [target.id, life.requestId(command.request)];
      if (command.kind === "issue") return { method: "issue", couponId, userId: life.userId(command.user), requestId };
      if (command.kind === "delete") return { method: "delete", couponId, revoke: command.revoke, requestId };
      if (command.kind !== "update") return { method: command.kind, couponId, requestId };
      const revision = { any: 0, current: target.revision, stale: target.revision + 1 }[command.revision];
      return { method: "update", couponId, revision, change: life.definitionOf(command.change), requestId };
    }
    default:
      return null;
  }
}

/** The calls that are made at once. */
export function crowdOf(command: Command, model: Model, life: Life): Call[] {
  const { coupons, userCoupons } = model.state;
  switch (command.kind) {
    case "crowd": {
      const scope = command.about === null ? model : focus(model, command.about);
      const calls = command.commands.flatMap((one) => callOf(one, scope, life) ?? []);
      return command.doubled ? [...calls, ...structuredClone(calls.slice(0, 1))] : calls;
    }
    case "rush": {
      const target = pick(coupons, command.coupon);
      if (!target) return [];
      return command.users.map((user) => ({
        method: "issue",
        couponId: target.id,
        userId: life.userId(user),
        requestId: "",
      }));
    }
    case "useAll": {
      const target = pick(coupons, command.coupon);
      const held = userCoupons.filter((one) => one.couponId === target?.id && one.deletedAt === null);
      return held.map((one) => ({ method: "use", order: orderOf(model, [one], "own", 2, 0), requestId: "" }));
    }
    default:
      return [];
  }
}

/** The world as if there were one user coupon only. */
function focus(model: Model, about: number): Model {
  const [one] = choose(model, [about]);
  if (!one) return model;
  const { state } = model;
  return new Model({
    ...state,
    userCoupons: [one],
    coupons: [model.coupon(one.couponId)],
    usages: state.usages.filter((usage) => usage.userCouponId === one.id),
  });
}

/** What commands need to know of the life that they are part of. */
export interface Life {
  /** The calls so far. */
  readonly made: readonly Call[];
  /** "" for 0. */
  requestId(request: number): string;
  userId(user: number): string;
  definitionOf(facts: Partial<Facts>): Partial<Definition>;
}

/** Times lie five seconds past a step, counted from the beginning of the life. */
export function definitionOf(facts: Partial<Facts>, startedAt: number): Partial<Definition> {
  const moment = (steps: number) => startedAt + steps * stepMs + stepMs / 2;
  const length = (steps: number | null) => (steps === null ? null : steps * stepMs - stepMs / 2);
  const all: { [K in keyof Facts]: (value: Facts[K]) => Partial<Definition> } = {
    discount: (index) => ({ discount: discounts[index] as Discount }),
    start: (steps) => ({ startsAt: moment(steps) }),
    end: (steps) => ({ expiresAt: moment(steps) }),
    validity: (steps) => ({ validityMs: length(steps) }),
    lock: (steps) => ({ lockMs: length(steps) as number }),
    claim: (steps) => ({ claimMs: length(steps) }),
    quantity: (quantity) => ({ quantity }),
    maxPerUser: (maxPerUser) => ({ maxPerUser }),
    usageCap: (usageCap) => ({ usageCap }),
    stackable: (stackable) => ({ stackable }),
    maxUses: (maxUses) => ({ maxUses }),
  };
  const parts = Object.entries(facts).map(([field, value]) =>
    (all[field as keyof Facts] as (one: unknown) => object)(value),
  );
  return Object.assign({}, ...parts);
}

function orderCall(command: OrderCommand, model: Model, life: Life): Call | null {
  const chosen = choose(model, command.picks);
  if (chosen.length === 0) return null;
  const order = orderOf(model, chosen, command.lock, command.amount, command.order);
  return command.kind === "quote"
    ? { method: "quote", order }
    : { method: command.kind, order, requestId: life.requestId(command.request) };
}

function orderOf(
  model: Model,
  chosen: readonly UserCoupon[],
  held: LockChoice,
  amountOf: number,
  order: number,
): Order {
  const userId = chosen[0]?.userId ?? "";
  return {
    userId,
    choices: choicesOf(model, chosen, held),
    orderId: `order-${order}`,
    amount: amounts[amountOf] ?? null,
  };
}

function choicesOf(model: Model, chosen: readonly UserCoupon[], held: LockChoice): Choice[] {
  return chosen.map((one) => {
    const own = model.isLocked(one) ? one.lock.version : 0;
    // The one before, or one that there has not been yet.
    const stale = one.lock.version > 1 ? one.lock.version - 1 : one.lock.version + 1;
    return { id: one.id, lockVersion: { own, none: 0, stale }[held] };
  });
}

/** User coupons of one user, mostly such as can be used. Now and then another user's is among them. */
function choose(model: Model, picks: readonly number[]): UserCoupon[] {
  const { userCoupons } = model.state;
  const usable = userCoupons.filter((one) => one.deletedAt === null && ["READY", "LOCKED"].includes(model.status(one)));
  const [first = 0, ...others] = picks;
  const from = first % 3 > 0 && usable.length > 0 ? usable : userCoupons;
  const one = pick(from, first);
  if (!one) return [];
  const chosen = [one];
  for (const other of others) {
    const same = from.filter(({ userId, id }) => userId === one.userId && !chosen.some((taken) => taken.id === id));
    const next = pick(other === 0 ? userCoupons : same, other);
    if (next && !chosen.includes(next)) chosen.push(next);
  }
  return chosen;
}

function readCall({ what, pick: index }: Command & { kind: "read" }, model: Model): Call | null {
  const { coupons, userCoupons } = model.state;
  const target = pick(coupons, index);
  const one = pick(userCoupons, index);
  if (what === "coupon") return target ? { method: "getCoupon", couponId: target.id } : null;
  if (!one) return null;
  const { userId } = one;
  if (what === "userCoupon") return { method: "getUserCoupon", userId, userCouponId: one.id };
  if (what === "usages") return { method: "listUsages", userId, showCancelled: index % 2 === 0 };
  return { method: "listUserCoupons", userId, showExpired: what === "all" };
}

function pick<T>(all: readonly T[], index: number): T | undefined {
  return all[index % Math.max(1, all.length)];
}
