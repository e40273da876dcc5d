import { type DescField, type DescMessage, getOption, hasOption } from "@bufbuild/protobuf";
import { field as fieldRules, Ignore } from "@bufbuild/protovalidate/gen/buf/validate/validate_pb.js";
import { type FieldViolation, invalid, type Refusal } from "../../domain/refusal.js";

/** What a method's message may be made of. All of it is looked at before any of the message is built. */
export interface MessageBounds {
  /** As it is after decompression; a longer one is refused with MESSAGE_TOO_LARGE. */
  readonly maxMessageBytes: number;
  /** The list that makes a message large by right; it is decoded item by item. */
  readonly bulk?: Bulk;
}

export interface Bulk {
  /** A repeated field of the request itself. */
  readonly field: DescField & { fieldKind: "list" };
  /** Parts of one item, as `maxParts` counts them. */
  readonly maxPartsOfItem: number;
}

/**
 * Fields, items and values of a message, without those of its bulk list, whose items have a bound of their own: an update of
 * a coupon has about 100. What has no more than this many parts is decoded at once, in 2 ms at most.
 */
export const maxParts = 1_000;
/** Of a text, in bytes as it is sent: in every form of it, the longest text that is allowed, 4,000 characters, is shorter. */
export const maxTextBytes = 64 * 1024;
/** Lists, objects and messages in each other. Requests have six. */
export const maxDepth = 16;

export function tooManyParts(field: string): Refusal {
  return invalid({ field, description: `has more parts than such a message can need: more than ${maxParts}` });
}

export function tooManyPartsOfItem(field: string, { maxPartsOfItem }: Bulk): Refusal {
  return invalid({ field, description: `has more parts than it can need: more than ${maxPartsOfItem}` });
}

/** protobuf-es keeps a map as an object, which leaves out an entry of this name. */
export const unkeptKey = "__proto__";
export const hasUnkeptKey = `map must not have the key "${unkeptKey}"`;

export function tooLongText(field: string): Refusal {
  return invalid({ field, description: `is longer than any text may be: more than ${maxTextBytes} bytes` });
}

export function tooDeep(): Refusal {
  return invalid({ field: "", description: `is nested more than ${maxDepth} deep` });
}

export function notBinary(schema: DescMessage): Refusal {
  return invalid({ field: "", description: `the bytes are not a protobuf message of type ${schema.typeName}` });
}

export function notJson(): Refusal {
  return invalid({ field: "", description: "the body is not JSON in UTF-8" });
}

/** In the words of the rule itself, which is not asked any more. */
export function tooManyItems(field: string, maxItems: number, isMap: boolean): FieldViolation {
  const description = isMap
    ? `map must be at most ${maxItems} entries`
    : `must contain no more than ${maxItems} item(s)`;
  return { field, description };
}

/** What the proto file says a list or a map may have at most; Infinity where it says nothing. */
export function maxItemsOf(field: DescField): number {
  const rules = rulesOf(field)?.type;
  const most = rules?.case === "repeated" ? rules.value.maxItems : rules?.case === "map" ? rules.value.maxPairs : 0n;
  return most > 0n ? Number(most) : Number.POSITIVE_INFINITY;
}

/** Whether the rules of what is in a field count. */
export function isChecked(field: DescField): boolean {
  const rules = rulesOf(field);
  if (rules?.ignore === Ignore.ALWAYS) return false;
  return !(rules?.type.case === "repeated" && rules.type.value.items?.ignore === Ignore.ALWAYS);
}

function rulesOf(field: DescField) {
  return hasOption(field, fieldRules) ? getOption(field, fieldRules) : undefined;
}
