import {
  amounts,
  type Command,
  discounts,
  type Facts,
  type IssueBy,
  type LineFacts,
  type LockChoice,
  labels,
  names,
  type OrderCommand,
  stepMs,
  type TermFacts,
} from "./commands.js";
import { Model } from "./model.js";
import type { Call, Choice, Definition, Discount, Line, Order, Scope, Target, Terms, UserCoupon } from "./state.js";

/** The orders that `useAll` makes by itself are numbered from here on. */
const firstOwnOrder = 10;
/** An order that only uses name. */
const namelessOrder = 4;
/** From this one on an amount may differ from that of the order so far. */
const otherAmount = 3;

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
      const choices = choicesOf(model, chosen, command.lock, command.spelling).map((one) => ({
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
      const { userId, id, userCouponId } = usage;
      const named = command.byUserCoupon ? { usageId: "", userCouponId } : { usageId: id, userCouponId: "" };
      return { method: "cancel", userId, ...named, requestId: life.requestId(command.request) };
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
    case "expireCodes":
    case "expire":
      return { method: command.kind };
    case "purge":
      return { method: "purge", dryRun: command.dryRun };
    case "upload": {
      const { to } = command;
      const book = "book" in to ? pickBook(model, to.book) : null;
      if ("book" in to && !book) return null;
      const target = "type" in to ? to : { couponId: book?.id ?? "" };
      const lines = command.lines.map((one) => lineOf(one, "type" in to, model, life));
      return { method: "upload", target, lines, requestId: life.requestId(command.request) };
    }
    case "generate": {
      const book = pickBook(model, command.book);
      const stem = life.code(`g${command.stem}-`);
      // Two jobs under way would draw from the same codes.
      if (!book || model.state.jobs.some((job) => job.stem === stem && !job.isEnded)) return null;
      const { characters, count } = command;
      const requestId = life.requestId(command.request);
      const terms = termsOf(command.terms, book.isTypePool, model);
      return { method: "generate", couponId: book.id, stem, characters, count, terms, requestId };
    }
    case "runGenerator": {
      const jobs = model.state.jobs.filter(({ isEnded }) => !isEnded);
      return { method: "runGenerator", jobs: jobs.map(({ id, couponId }) => ({ id, couponId })) };
    }
    case "issue": {
      const target = targetOf(command.by, model, life);
      if (!target) return null;
      const issue = issueCall(target, life.userId(command.user), life.requestId(command.request));
      return { ...issue, labels: labels[command.labels ?? 0] ?? "" } as Call;
    }
    case "update":
    case "pause":
    case "resume":
    case "delete": {
      const target = pick(coupons, command.coupon);
      if (!target) return null;
      const [couponId, requestId] = [target.id, life.requestId(command.request)];
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
      const calls = command.commands.flatMap((one) => callOf(inCrowd(one), scope, life) ?? []);
      return command.doubled ? [...calls, ...structuredClone(calls.slice(0, 1))] : calls;
    }
    case "rush": {
      const target = pick(coupons, command.coupon);
      if (!target) return [];
      return command.users.map((user) => issueCall({ couponId: target.id }, life.userId(user)));
    }
    case "batch": {
      const target = pick(coupons, command.coupon);
      if (!target) return [];
      const userIds = [...new Set(command.users)].map((user) => life.userId(user));
      const requestId = life.requestId(command.request);
      // Each user has a request id of its own, which no other call can name.
      return userIds.map((userId) =>
        issueCall({ couponId: target.id }, userId, requestId && `batch ${requestId} ${userId}`),
      );
    }
    case "codeRush": {
      const target = targetOf({ code: command.code, spelling: 0 }, model, life);
      return target ? command.users.map((user) => issueCall(target, life.userId(user))) : [];
    }
    case "typeRush":
      return command.users.map((user) => issueCall({ type: command.type }, life.userId(user)));
    case "groupRush": {
      const grouped = coupons.filter(({ quota }) => quota !== null);
      const group = pick(grouped, command.coupon)?.quota?.group;
      const members = grouped.filter(({ quota }) => quota?.group === group);
      return command.picks.flatMap((index) => {
        const target = pick(members, index);
        return target ? [issueCall({ couponId: target.id }, life.userId(command.user))] : [];
      });
    }
    case "useAll": {
      const target = pick(coupons, command.coupon);
      const held = userCoupons.filter((one) => one.couponId === target?.id && one.deletedAt === null);
      // Of one order by user, or each of an order of its own.
      const orderOfNth = (n: number) => (command.coupon % 2 === 0 ? 0 : firstOwnOrder + n);
      return held.map((one, n) => ({
        method: "use",
        order: orderOf(model, [one], "own", 2, orderOfNth(n)),
        requestId: "",
      }));
    }
    default:
      return [];
  }
}

function issueCall(target: Target, userId: string, requestId = ""): Call {
  return { method: "issue", target, userId, requestId };
}

/** Which user coupon a code means is decided before the rest of the call; in a crowd another one may be meant then. */
function inCrowd(command: Command): Command {
  return "spelling" in command ? { ...command, spelling: null } : command;
}

function targetOf(by: IssueBy, model: Model, life: Life): Target | null {
  const { coupons, codes } = model.state;
  if ("type" in by) return by;
  if ("coupon" in by) {
    const target = pick(coupons, by.coupon);
    return target ? { couponId: target.id } : null;
  }
  const code = pick(codes, by.code);
  if (!code) return null;
  // Now and then one that there is not.
  return { code: by.code === 0 ? life.code("none") : spelled(code.code, by.spelling) };
}

/** Code books mostly. */
function pickBook(model: Model, index: number) {
  const { coupons } = model.state;
  const books = coupons.filter(({ book }) => book !== null);
  return pick(index % 7 === 0 || books.length === 0 ? coupons : books, index);
}

const badTexts = ["", "-._", "caf\u00e9", "x".repeat(65), " a"];

function lineOf({ code, spelling, bad, terms }: LineFacts, isForTypePool: boolean, model: Model, life: Life): Line {
  const text = spelled(life.code(`c-${code}`), spelling);
  const good = termsOf(terms, isForTypePool, model);
  return {
    code: bad === "text" ? (badTexts[code % badTexts.length] as string) : text,
    terms: {
      ...good,
      ...(bad === "end" && { expiresAt: model.state.now - stepMs / 2 }),
      ...(bad === "uses" && { maxUses: 0 }),
      ...(bad === "holders" && { maxHolders: 0 }),
    },
  };
}

function termsOf({ discount, end, maxUses, maxHolders, bare }: TermFacts, isForTypePool: boolean, model: Model): Terms {
  const isFull = isForTypePool && !bare;
  const index = discount ?? (isFull ? 0 : null);
  const steps = end ?? (isFull ? 3 : null);
  return {
    discount: index === null ? null : (discounts[index] as Discount),
    expiresAt: steps === null ? null : model.state.now + steps * stepMs + stepMs / 2,
    maxUses,
    maxHolders,
  };
}

/** The same code, unless its book tells such codes apart. */
function spelled(code: string, spelling: number): string {
  switch (spelling) {
    case 1:
      return code.toLowerCase();
    case 2:
      return code.replaceAll("-", "");
    case 3:
      return code.replaceAll("-", " . ").toUpperCase();
    default:
      return code;
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
  /** A code, or the beginning of one, that no other life has. */
  code(name: string): string;
  definitionOf(facts: Partial<Facts>): Partial<Definition>;
}

/** Times lie five seconds past a step, counted from the beginning of the life. */
export function definitionOf(facts: Partial<Facts>, startedAt: number, life: string): Partial<Definition> {
  const moment = (steps: number) => startedAt + steps * stepMs + stepMs / 2;
  const length = (steps: number | null) => (steps === null ? null : steps * stepMs - stepMs / 2);
  const all: { [K in keyof Facts]: (value: Facts[K]) => Partial<Definition> } = {
    name: (index) => ({ name: names[index] as string }),
    labels: (index) => ({ labels: labels[index] as string }),
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
    type: (type) => ({ type }),
    quota: (quota) => ({ quota: quota && { group: `${life}-${quota.group}`, maxPerDay: quota.max } }),
    // Its quantity is its codes.
    book: (book) => ({ book, ...(book !== null && { quantity: null }) }),
  };
  const parts = Object.entries(facts).map(([field, value]) =>
    (all[field as keyof Facts] as (one: unknown) => object)(value),
  );
  return Object.assign({}, ...parts);
}

function orderCall(command: OrderCommand, model: Model, life: Life): Call | null {
  const chosen = choose(model, command.picks);
  if (chosen.length === 0) return null;
  const named = orderOf(model, chosen, command.lock, command.amount, command.order, command.spelling);
  // A quote and a lock need not name one.
  const isNameless = command.kind !== "use" && command.order === namelessOrder;
  const order = isNameless ? { ...named, orderId: "" } : named;
  return command.kind === "quote"
    ? { method: "quote", order }
    : {
        method: command.kind,
        order: command.kind === "use" ? { ...order, labels: labels[command.labels] ?? "" } : order,
        requestId: life.requestId(command.request),
      };
}

function orderOf(
  model: Model,
  chosen: readonly UserCoupon[],
  held: LockChoice,
  amountOf: number,
  order: number,
  spelling: number | null = null,
): Order {
  const userId = chosen[0]?.userId ?? "";
  const orderId = `order-${order}`;
  const standing = model.state.usages.find(
    (one) => one.userId === userId && one.orderId === orderId && one.cancelledAt === null,
  );
  const amount = amounts[amountOf] ?? null;
  return {
    userId,
    choices: choicesOf(model, chosen, held, spelling),
    orderId,
    // Mostly what earlier calls were told of it.
    amount: standing && amountOf < otherAmount ? standing.amount : amount,
  };
}

function choicesOf(model: Model, chosen: readonly UserCoupon[], held: LockChoice, spelling: number | null): Choice[] {
  return chosen.map((one) => {
    const own = model.isLocked(one) ? one.lock.version : 0;
    // The one before, or one that there has not been yet.
    const stale = one.lock.version > 1 ? one.lock.version - 1 : one.lock.version + 1;
    const lockVersion = { own, none: 0, stale }[held];
    if (one.code === null || spelling === null) return { id: one.id, lockVersion };
    return { id: "", code: spelled(one.code, spelling), lockVersion };
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
  if (what === "stats") return { method: "getStats", scope: scopeOf(index, model) };
  const target = what === "codes" ? pickBook(model, index) : pick(coupons, index);
  const one = pick(userCoupons, index);
  if (what === "codes") return target ? { method: "listCodes", couponId: target.id } : null;
  if (what === "coupon") return target ? { method: "getCoupon", couponId: target.id } : null;
  if (!one) return null;
  const { userId } = one;
  if (what === "userCoupon") return { method: "getUserCoupon", userId, userCouponId: one.id };
  if (what === "usages") return { method: "listUsages", userId, showCancelled: index % 2 === 0 };
  return { method: "listUserCoupons", userId, showExpired: what === "all" };
}

function scopeOf(index: number, model: Model): Scope {
  if (index % 5 < 2)
    return [null, { type: index % 2 === 0 ? ("FREE" as const) : ("STANDARD" as const) }][index % 5] as Scope;
  const target = pick(model.state.coupons, index);
  return target ? { couponId: target.id } : null;
}

/** -1: the last one. */
function pick<T>(all: readonly T[], index: number): T | undefined {
  return index < 0 ? all.at(index) : all[index % Math.max(1, all.length)];
}
