import type { FieldViolation } from "./refusal.js";

/**
 * What two checks have found, told in one answer. Of what the second one has found, that is left out which is about a field
 * that the first one has named, or in it: it may only follow from what is known already.
 */
export function andAlso(named: readonly FieldViolation[], more: readonly FieldViolation[]): FieldViolation[] {
  const known = named.flatMap(pathsOf);
  const isNew = (one: FieldViolation) => !pathsOf(one).some((path) => known.some((other) => isWithin(path, other)));
  return [...named, ...more.filter(isNew)];
}

function pathsOf({ field, about = [] }: FieldViolation): string[] {
  return [field, ...about];
}

/** Whether a path is another one or goes on from it: "coupon.name" and "coupons[1]" do from "coupon" and "coupons". */
function isWithin(path: string, outer: string): boolean {
  if (path === outer) return true;
  return path.startsWith(outer) && (path[outer.length] === "." || path[outer.length] === "[");
}
