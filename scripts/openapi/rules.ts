import { create, type DescField, type DescMessage, type DescOneof, getExtension, getOption } from "@bufbuild/protobuf";
import { type Duration, durationMs } from "@bufbuild/protobuf/wkt";
import {
  type FieldRules,
  field as fieldRules,
  Ignore,
  oneof as oneofRules,
} from "@bufbuild/protovalidate/gen/buf/validate/validate_pb.js";
import { file_coupon_v1_rules } from "../../gen/coupon/v1/rules_pb.js";
import { messageValidator } from "../../src/transport/validator.js";

export type Json = Record<string, unknown>;

/** What the rules of a proto file come to in a schema. What a schema cannot say is said in words. */
export interface Constraints {
  readonly schema: Json;
  readonly words: readonly string[];
}

const none: Constraints = { schema: {}, words: [] };
const validator = messageValidator();

/** What the service itself has against an empty message is what must be set. */
export function requiredFields(message: DescMessage): { fields: Set<DescField>; oneofs: Set<DescOneof> } {
  const result = validator.validate(message, create(message) as never);
  if (result.kind === "error") throw result.error;
  const fields = new Set<DescField>();
  const oneofs = new Set<DescOneof>();
  for (const { field } of result.violations ?? []) {
    const [first] = field;
    if (first?.kind === "field") fields.add(first);
    else if (first?.kind === "oneof") oneofs.add(first);
  }
  for (const one of message.oneofs) if (getOption(one, oneofRules).required) oneofs.add(one);
  return { fields, oneofs };
}

/** What the rules of rules.proto come to. They are expressions of CEL, which no schema can be made of. */
const shared: Readonly<Record<string, Json>> = {
  request_id: { maxLength: 64, pattern: "^[!-~]*$" },
  caller: { maxLength: 64, pattern: "^[A-Za-z0-9][A-Za-z0-9._-]*$" },
  key_id: { pattern: "^[a-z2-7]{12}$" },
};

/** `isSet`: of a value that is there, as in a path. */
export function constraintsOf(field: DescField, isSet = false): Constraints {
  const rules = getOption(field, fieldRules);
  if (rules.ignore === Ignore.ALWAYS) return { schema: {}, words: [] };
  const { schema, words } = constraintsIn(rules, field);
  // An empty text stands for none then.
  if (isSet || rules.ignore !== Ignore.IF_ZERO_VALUE || Object.keys(schema).length === 0) return { schema, words };
  return { schema: { anyOf: [{ const: "" }, schema] }, words };
}

function constraintsIn(rules: FieldRules, field: DescField): Constraints {
  if (rules.cel.length > 0 || rules.celExpression.length > 0) {
    return { schema: {}, words: rules.cel.map(({ message }) => message) };
  }
  const { case: kind, value } = rules.type;
  switch (kind) {
    case undefined:
      return none;
    case "string":
      return {
        schema: {
          ...stringSchema(known(value, ["minLen", "maxLen", "pattern", "wellKnown", "in"], field)),
          ...sharedSchema(value, field),
        },
        words: [],
      };
    case "int32":
      return { schema: rangeSchema(known(value, ["greaterThan", "lessThan"], field)), words: [] };
    case "int64":
      return { schema: {}, words: [rangeWords(known(value, ["greaterThan", "lessThan"], field), String)] };
    case "duration":
      return { schema: {}, words: [rangeWords(known(value, ["greaterThan", "lessThan"], field), seconds)] };
    case "enum": {
      const { notIn } = known(value, ["definedOnly", "notIn"], field);
      if (notIn.length === 0) return none;
      const names = notIn.map((number) => field.enum?.value[number]?.name);
      return { schema: { not: { enum: names } }, words: [] };
    }
    case "repeated": {
      const { minItems, maxItems, unique, items } = known(value, ["minItems", "maxItems", "unique", "items"], field);
      const ofItems = items && items.ignore !== Ignore.ALWAYS ? constraintsIn(items, field) : none;
      const schema = {
        ...(minItems > 0n && { minItems: Number(minItems) }),
        ...(maxItems > 0n && { maxItems: Number(maxItems) }),
        ...(unique && { uniqueItems: true }),
        ...(Object.keys(ofItems.schema).length > 0 && { items: ofItems.schema }),
      };
      return { schema, words: ofItems.words };
    }
    case "map": {
      const { maxPairs, keys, values } = known(value, ["maxPairs", "keys", "values"], field);
      const ofKeys = keys ? constraintsIn(keys, field) : none;
      const ofValues = values ? constraintsIn(values, field) : none;
      const schema = {
        ...(maxPairs > 0n && { maxProperties: Number(maxPairs) }),
        ...(Object.keys(ofKeys.schema).length > 0 && { propertyNames: ofKeys.schema }),
        ...(Object.keys(ofValues.schema).length > 0 && { additionalProperties: ofValues.schema }),
      };
      return { schema, words: [...ofKeys.words, ...ofValues.words] };
    }
    default:
      throw new Error(`${nameOf(field)}: what a rule of the kind ${kind} comes to in a schema is not known`);
  }
}

/** A rule that is not known here must not be left out in silence. */
function known<R extends { readonly $typeName: string }>(rules: R, names: readonly string[], field: DescField): R {
  for (const [name, value] of Object.entries(rules) as [string, unknown][]) {
    if (name === "$typeName" || names.includes(name)) continue;
    if (name === "$unknown" && rules.$typeName === "buf.validate.StringRules") continue;
    const isSet = Array.isArray(value)
      ? value.length > 0
      : typeof value === "object" && value !== null
        ? "case" in value && value.case !== undefined
        : value !== undefined && value !== false && value !== 0n && value !== "" && value !== 0;
    if (isSet && name !== "example")
      throw new Error(`${nameOf(field)}: what the rule ${name} comes to in a schema is not known`);
  }
  return rules;
}

function nameOf(field: DescField): string {
  return `${field.parent.typeName}.${field.name}`;
}

type StringRules = Extract<FieldRules["type"], { case: "string" }>["value"];

/** The engine of the service reads the patterns as JavaScript does, and so do schemas. */
function stringSchema({ minLen, maxLen, pattern, wellKnown, in: allowed }: StringRules): Json {
  return {
    ...(minLen > 0n && { minLength: Number(minLen) }),
    ...(maxLen > 0n && { maxLength: Number(maxLen) }),
    ...(pattern && { pattern }),
    ...(wellKnown.case === "uuid" && { format: "uuid" }),
    ...(allowed.length > 0 && { enum: allowed }),
  };
}

/** A shared rule is an extension, which stays unread in the rules of a field. */
function sharedSchema(rules: StringRules, field: DescField): Json {
  const schemas = (rules.$unknown ?? []).map(({ no }) => {
    const rule = file_coupon_v1_rules.extensions.find(({ number }) => number === no);
    const schema = rule && getExtension(rules, rule) === true && shared[rule.name];
    if (!schema)
      throw new Error(`${nameOf(field)}: what the rule ${rule?.name ?? no} comes to in a schema is not known`);
    return schema;
  });
  return Object.assign({}, ...schemas);
}

interface Range<T> {
  readonly greaterThan: { readonly case?: "gt" | "gte" | undefined; readonly value?: T | undefined };
  readonly lessThan: { readonly case?: "lt" | "lte" | undefined; readonly value?: T | undefined };
}

function rangeSchema({ greaterThan, lessThan }: Range<number>): Json {
  return {
    ...(greaterThan.case === "gte" && { minimum: greaterThan.value }),
    ...(greaterThan.case === "gt" && { exclusiveMinimum: greaterThan.value }),
    ...(lessThan.case === "lte" && { maximum: lessThan.value }),
    ...(lessThan.case === "lt" && { exclusiveMaximum: lessThan.value }),
  };
}

function rangeWords<T>({ greaterThan, lessThan }: Range<T>, say: (value: T) => string): string {
  const least =
    greaterThan.case && `${greaterThan.case === "gte" ? "at least" : "more than"} ${say(greaterThan.value as T)}`;
  const most = lessThan.case && `${lessThan.case === "lte" ? "at most" : "less than"} ${say(lessThan.value as T)}`;
  return `Range: ${[least, most].filter(Boolean).join(", ")}.`;
}

function seconds(duration: Duration): string {
  return `${durationMs(duration) / 1_000}s`;
}
