import fc from "fast-check";
import { type Change, categories, descriptions, discounts, type Facts, names, stepMs } from "./commands.js";
import type { CouponType, Definition } from "./state.js";

/** Any definition of a coupon, and any change of one. */

/** The longest there is: nobody is refused who only has to wait. */
const maxWaitMs = 20_000;

export const daySteps = 86_400_000 / stepMs;
const monthSteps = 30 * daySteps;

export const request = fc.constantFrom(0, 0, 0, 1, 2, 3);
export const someLabels = fc.constantFrom(0, 0, 0, 1, 2);
export const few = (max: number) => fc.integer({ min: 1, max });
/** null once in `freq` times. */
export const orNone = (arbitrary: fc.Arbitrary<number>, freq = 2) => fc.option(arbitrary, { freq });
export const fields: { [K in keyof Facts]: fc.Arbitrary<Facts[K]> } = {
  name: fc.nat(names.length - 1),
  description: fc.nat(descriptions.length - 1),
  category: fc.nat(categories.length - 1),
  labels: someLabels,
  discount: fc.nat(discounts.length - 1),
  start: fc.constantFrom(-5, -5, -5, -5, null, 1),
  end: fc.constantFrom(30, 30, 30, monthSteps, monthSteps, 4),
  quantity: orNone(few(6), 4),
  validity: orNone(few(4), 3),
  maxPerUser: fc.constantFrom(1, 2, 2, 2, null),
  usageCap: orNone(few(4), 3),
  stackable: fc.constantFrom(true, true, true, false),
  maxUses: fc.constantFrom(1, 1, 2, 3, null),
  lock: orNone(few(3), 5),
  claim: orNone(few(3), 2),
  type: fc.constantFrom<(CouponType | null)[]>(null, null, "FREE", "FREE", "FREE", "STANDARD", "STANDARD", "MEGADEAL"),
  throttle: fc.constantFrom(
    null,
    null,
    null,
    null,
    ...[1, 3].map((maxConcurrent) => ({ maxConcurrent, maxPerSecond: 1_000, maxWaitMs })),
  ),
  quota: fc.option(fc.record({ group: fc.constantFrom(0, 0, 0, 1), max: fc.constantFrom(1, 1, 2, 3) }), { freq: 2 }),
  book: fc.constantFrom<Definition["book"][]>(null, null, "folded", "folded", "exact"),
};
export const createCommand = fc.record({ kind: fc.constant("create" as const), facts: fc.record(fields), request });
export const createMany = fc.record({
  kind: fc.constant("createMany" as const),
  facts: fc.array(fc.record({ ...fields, end: fc.constantFrom(30, 30, 4, -6) }), { minLength: 1, maxLength: 3 }),
  request,
});
const { book: _, ...changeable } = fields;
const oneChange: fc.Arbitrary<Change> = fc.oneof(
  ...Object.entries({ ...changeable, end: fc.integer({ min: -6, max: 30 }) }).map(([field, arbitrary]) =>
    (arbitrary as fc.Arbitrary<unknown>).map((value): Change => ({ [field]: value })),
  ),
  // Those that matter most to using.
  fields.usageCap.map((usageCap) => ({ usageCap })),
  fc.record({ group: fc.constant(0), max: few(3) }).map((quota) => ({ quota })),
  fields.discount.map((chosen) => ({ discount: chosen })),
  fields.discount.map((chosen) => ({ discount: chosen })),
);
export const change = fc.oneof(
  { weight: 3, arbitrary: oneChange },
  { weight: 1, arbitrary: fc.tuple(oneChange, oneChange, oneChange).map((all): Change => Object.assign({}, ...all)) },
);
export const revision = fc.constantFrom("any" as const, "any" as const, "current" as const, "stale" as const);

export const type = fc.constantFrom<CouponType[]>("FREE", "FREE", "FREE", "STANDARD", "STANDARD", "MEGADEAL");
