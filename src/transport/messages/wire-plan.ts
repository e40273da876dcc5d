import { type DescField, type DescMessage, ScalarType } from "@bufbuild/protobuf";
import { isChecked, maxItemsOf } from "./message-bounds.js";

/** Wire types of the protobuf encoding. */
export const Wire = { varint: 0, bits64: 1, length: 2, groupStart: 3, groupEnd: 4, bits32: 5 } as const;

/** What the scanner must know of a message type. */
export interface WirePlan {
  /** By their numbers. */
  readonly fields: readonly (WireField | undefined)[];
  /** protobuf-es does not skip what it does not know in the entry of a map, but reads it as if it were the next field. */
  readonly isMapEntry: boolean;
}

export interface WireField {
  readonly number: number;
  readonly name: string;
  readonly wireType: number;
  readonly isList: boolean;
  readonly isMap: boolean;
  readonly isMapKey: boolean;
  /** Whether many values may come as one, as numbers do. */
  readonly isPackable: boolean;
  readonly maxItems: number;
  /** undefined: it is no message. */
  readonly plan: WirePlan | undefined;
}

const plans = new Map<DescMessage, WirePlan>();
/** Of what the rules of the proto file do not look into: its lists may be longer than they say. */
const uncheckedPlans = new Map<DescMessage, WirePlan>();

export function wirePlanOf(schema: DescMessage, checked = true): WirePlan {
  const known = checked ? plans : uncheckedPlans;
  const made = known.get(schema);
  if (made) return made;
  const fields: (WireField | undefined)[] = [];
  const plan = { fields, isMapEntry: false };
  // A type may contain itself.
  known.set(schema, plan);
  for (const field of schema.fields) fields[field.number] = fieldOf(field, checked);
  return plan;
}

function fieldOf(field: DescField, checked: boolean): WireField {
  const plan = innerPlan(field, checked && isChecked(field));
  const wireType = plan ? Wire.length : wireTypeOf(field.scalar);
  const isList = field.fieldKind === "list";
  const isMap = field.fieldKind === "map";
  const maxItems = checked && (isList || isMap) ? maxItemsOf(field) : Number.POSITIVE_INFINITY;
  return {
    number: field.number,
    name: field.name,
    wireType,
    isList,
    isMap,
    isMapKey: false,
    isPackable: isList && wireType !== Wire.length,
    maxItems,
    plan,
  };
}

function innerPlan(field: DescField, checked: boolean): WirePlan | undefined {
  if (field.fieldKind === "map") {
    const key = scalarField(1, wireTypeOf(field.mapKey));
    const value = { ...scalarField(2, wireTypeOf(field.scalar)), plan: undefined as WirePlan | undefined };
    if (field.message) Object.assign(value, { wireType: Wire.length, plan: wirePlanOf(field.message, checked) });
    return { fields: [undefined, key, value], isMapEntry: true };
  }
  if (!field.message) return undefined;
  // A group would need its end to be looked for.
  if (field.delimitedEncoding) throw new Error(`${field} is a group, which the scanner does not know`);
  return wirePlanOf(field.message, checked);
}

function scalarField(number: number, wireType: number): WireField {
  const isMapKey = number === 1;
  const name = isMapKey ? "key" : "value";
  const no = { isList: false, isMap: false, isPackable: false, plan: undefined };
  return { number, name, wireType, isMapKey, maxItems: Number.POSITIVE_INFINITY, ...no };
}

/** undefined: an enum. */
function wireTypeOf(scalar: ScalarType | undefined): number {
  switch (scalar) {
    case ScalarType.STRING:
    case ScalarType.BYTES:
      return Wire.length;
    case ScalarType.DOUBLE:
    case ScalarType.FIXED64:
    case ScalarType.SFIXED64:
      return Wire.bits64;
    case ScalarType.FLOAT:
    case ScalarType.FIXED32:
    case ScalarType.SFIXED32:
      return Wire.bits32;
    default:
      return Wire.varint;
  }
}
