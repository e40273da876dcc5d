import type { DescMessage } from "@bufbuild/protobuf";
import type { FieldViolation } from "../../domain/refusal.js";

/** Of a list of thousands all items may be wrong; an error names the first few. */
const maxSorted = 1_000;

/** By the order of the fields in the proto file, so that the same mistakes are always told in the same order. */
export function inOrder(schema: DescMessage, violations: readonly FieldViolation[]): FieldViolation[] {
  return violations
    .slice(0, maxSorted)
    .map((violation) => ({ violation, place: placeOf(schema, violation.field) }))
    .sort((one, other) => compare(one.place, other.place))
    .map(({ violation }) => violation);
}

/** The numbers of the fields on a path, and those of items: "coupons[1].code" is [1, 1, 1]. */
function placeOf(schema: DescMessage, path: string): number[] {
  const place: number[] = [];
  let inner: DescMessage | undefined = schema;
  for (const [, name, index] of path.matchAll(/([^.[\]]+)|\[(\d+)\]/g)) {
    if (name === undefined) {
      place.push(Number(index));
      continue;
    }
    const fields: DescMessage["fields"] = inner?.fields ?? [];
    const at = fields.findIndex((field) => field.name === name || field.oneof?.name === name);
    // What is no field comes last.
    place.push(at < 0 ? fields.length : at);
    inner = fields[at]?.message;
  }
  return place;
}

function compare(one: readonly number[], other: readonly number[]): number {
  for (const [index, number] of one.entries()) {
    const difference = number - (other[index] ?? -1);
    if (difference !== 0) return difference;
  }
  return one.length - other.length;
}
