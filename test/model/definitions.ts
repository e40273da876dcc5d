import type { Call, Line, Target } from "./call.js";
import {
  categories,
  descriptions,
  discounts,
  type Facts,
  type IssueBy,
  type LineFacts,
  labels,
  names,
  stepMs,
  type TermFacts,
} from "./commands.js";
import type { Model } from "./model.js";
import { pick } from "./orders-of.js";
import type { Definition, Discount, Terms } from "./state.js";

/** What commands say of coupons and codes, in the terms of the life that they are part of. */

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

/** Times lie on steps, counted from the beginning of the life: what ends does so in the very millisecond in which it is asked for. */
export function definitionOf(facts: Partial<Facts>, startedAt: number, life: string): Partial<Definition> {
  const moment = (steps: number) => startedAt + steps * stepMs;
  const length = (steps: number | null) => (steps === null ? null : steps * stepMs);
  const all: { [K in keyof Facts]: (value: Facts[K]) => Partial<Definition> } = {
    description: (index) => ({ description: descriptions[index] as string }),
    category: (index) => ({ category: categories[index] as string }),
    name: (index) => ({ name: names[index] as string }),
    labels: (index) => ({ labels: labels[index] as string }),
    discount: (index) => ({ discount: discounts[index] as Discount }),
    start: (steps) => ({ startsAt: steps === null ? null : moment(steps) }),
    end: (steps) => ({ expiresAt: moment(steps) }),
    validity: (steps) => ({ validityMs: length(steps) }),
    lock: (steps) => ({ lockMs: length(steps) }),
    claim: (steps) => ({ claimMs: length(steps) }),
    quantity: (quantity) => ({ quantity }),
    maxPerUser: (maxPerUser) => ({ maxPerUser }),
    usageCap: (usageCap) => ({ usageCap }),
    stackable: (stackable) => ({ stackable }),
    maxUses: (maxUses) => ({ maxUses }),
    type: (type) => ({ type }),
    throttle: (throttle) => ({ throttle }),
    quota: (quota) => ({ quota: quota && { group: `${life}-${quota.group}`, maxPerDay: quota.max } }),
    // Its quantity is its codes.
    book: (book) => ({ book, ...(book !== null && { quantity: null }) }),
  };
  const parts = Object.entries(facts).map(([field, value]) =>
    (all[field as keyof Facts] as (one: unknown) => object)(value),
  );
  return Object.assign({}, ...parts);
}

export function targetOf(by: IssueBy, model: Model, life: Life): Target | null {
  const { coupons, codes } = model.state;
  if ("type" in by) return by;
  if ("coupon" in by) {
    const target = pick(coupons, by.coupon);
    return target ? { couponId: target.id } : null;
  }
  if ("book" in by) {
    const couponId = pick(model.state.uploads, by.book)?.couponId;
    return couponId === undefined ? null : { couponId };
  }
  const code = pick(codes, by.code);
  if (!code) return null;
  // Now and then one that there is not.
  return { code: by.code === 0 ? life.code("none") : spelled(code.code, by.spelling) };
}

/** Code books mostly. */
export function pickBook(model: Model, index: number) {
  const { coupons } = model.state;
  const books = coupons.filter(({ book }) => book !== null);
  return pick(index % 7 === 0 || books.length === 0 ? coupons : books, index);
}

const badTexts = ["", "-._", "caf\u00e9", "x".repeat(65), " a"];

export function lineOf(
  { code, spelling, bad, terms }: LineFacts,
  isForTypePool: boolean,
  model: Model,
  life: Life,
): Line {
  const text = spelled(life.code(`c-${code}`), spelling);
  const good = termsOf(terms, isForTypePool, model);
  return {
    code: bad === "text" ? (badTexts[code % badTexts.length] as string) : text,
    terms: {
      ...good,
      ...(bad === "end" && { expiresAt: model.state.now }),
      ...(bad === "uses" && { maxUses: 0 }),
      ...(bad === "holders" && { maxHolders: 0 }),
    },
  };
}

export function termsOf(
  { discount, end, maxUses, maxHolders, bare }: TermFacts,
  isForTypePool: boolean,
  model: Model,
): Terms {
  const isFull = isForTypePool && !bare;
  const index = discount ?? (isFull ? 0 : null);
  const steps = end ?? (isFull ? 3 : null);
  return {
    discount: index === null ? null : (discounts[index] as Discount),
    expiresAt: steps === null ? null : model.state.now + steps * stepMs,
    maxUses,
    maxHolders,
  };
}

/** The same code, unless its book tells such codes apart. */
export function spelled(code: string, spelling: number): string {
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
