import {
  type DescEnum,
  type DescField,
  type DescMessage,
  fromJson,
  getOption,
  hasOption,
  type JsonObject,
  type JsonValue,
  ScalarType,
} from "@bufbuild/protobuf";
import { field as fieldRules } from "@bufbuild/protovalidate/gen/buf/validate/validate_pb.js";
import { type FieldViolation, Refusal } from "../../domain/refusal.js";
import { cut } from "../../platform/cut.js";
import { malformed, writtenForm } from "./json-forms.js";

export const strict = { ignoreUnknownFields: false };
const maxNameBytes = 300;
const maxDescriptionBytes = 300;
/** An error names no more. */
export const maxWrongFields = 20;

/** Some fields of a message in JSON could not be read. */
export class Misread extends Refusal {
  constructor(
    violations: readonly FieldViolation[],
    /** The message without these fields, in which more may be wrong; undefined: it is not looked at. */
    readonly rest: unknown,
  ) {
    super("INVALID_FIELD", violations);
  }
}

/**
 * Names the fields that make a message unreadable, by the names of the proto file, and takes them out of it. Each field is
 * tried on its own, so it is for small messages. None: it is no single field.
 */
export function takeWrongFields(schema: DescMessage, json: JsonValue): FieldViolation[] {
  const violations: FieldViolation[] = [];
  if (isObject(json)) takeFrom(schema, json, "", violations);
  return violations;
}

function takeFrom(schema: DescMessage, json: JsonObject, outer: string, violations: FieldViolation[]): void {
  const seen = new Set<DescField>();
  for (const [key, value] of Object.entries(json)) {
    if (violations.length >= maxWrongFields) return;
    const field = schema.fields.find((one) => one.name === key || one.jsonName === key);
    const path = `${outer}${field?.name ?? cut(key, maxNameBytes)}`;
    const wrong = (description: string) => {
      const about = field?.oneof ? { about: [`${outer}${field.oneof.name}`] } : {};
      violations.push({ field: path, description, ...about });
      delete json[key];
    };
    if (!field) wrong(`is no field of ${schema.typeName}`);
    else if (seen.has(field)) wrong("is set more than once");
    else if (field.fieldKind === "list" && Array.isArray(value)) takeFromList(schema, field, value, path, violations);
    else {
      const before = violations.length;
      const inner = ordinary(field);
      if (inner && isObject(value)) takeFrom(inner, value, `${path}.`, violations);
      const problem = violations.length === before ? problemOf(schema, field, value) : undefined;
      if (problem !== undefined) wrong(problem);
    }
    if (field) seen.add(field);
  }
}

/** What cannot be read of a list is put in the place of an empty item, so that the others keep their numbers. */
function takeFromList(
  schema: DescMessage,
  field: DescField & { fieldKind: "list" },
  items: JsonValue[],
  path: string,
  violations: FieldViolation[],
): void {
  const inner = ordinary(field);
  for (const [index, item] of items.entries()) {
    if (violations.length >= maxWrongFields) return;
    const before = violations.length;
    if (inner && isObject(item)) takeFrom(inner, item, `${path}[${index}].`, violations);
    if (violations.length > before) continue;
    const problem = malformed(field, item)?.description ?? problemOf(schema, field, [item]);
    if (problem === undefined) continue;
    violations.push({ field: `${path}[${index}]`, description: problem });
    items[index] = inner ? {} : "";
  }
}

/** undefined: it can be read. */
function problemOf(schema: DescMessage, field: DescField, value: JsonValue): string | undefined {
  const problem = malformed(field, value);
  if (problem) return problem.description;
  try {
    fromJson(schema, { [field.jsonName]: value }, strict);
    return undefined;
  } catch (error) {
    return mustBe(field, value) ?? unreadable(error).description;
  }
}

/** What a value is to be in JSON, or each of a list; undefined: it is of the right kind, and something else is wrong with it. */
function mustBe(field: DescField, value: JsonValue): string | undefined {
  if (field.fieldKind === "map") return isObject(value) ? undefined : 'must be an object: {"name": "value"}';
  if (field.fieldKind === "list" && !Array.isArray(value)) return "must be a list";
  const one = Array.isArray(value) && field.fieldKind === "list" ? (value[0] as JsonValue) : value;
  if (field.enum) return `must be one of ${wordsOf(field, field.enum).join(", ")}`;
  if (field.message) {
    const form = writtenForm(field);
    if (form !== undefined) return typeof one === "string" ? undefined : form;
    return isObject(one) ? undefined : `must be an object with the fields of ${field.message.typeName}`;
  }
  switch (field.scalar) {
    case ScalarType.STRING:
      return typeof one === "string" ? undefined : "must be a text";
    case ScalarType.BOOL:
      return "must be true or false";
    case ScalarType.INT32:
      return "must be a whole number from -2147483648 to 2147483647";
    case ScalarType.INT64:
      return 'must be a whole number of 64 bits at most, in decimal digits: "1000"';
    default:
      return undefined;
  }
}

/** What protobuf-es says, without what the path of the field says already; of a oneof of the message itself, with its name. */
export function unreadable(error: unknown): FieldViolation {
  const text = error instanceof Error ? error.message : String(error);
  const [, oneof, why = text] = /^cannot decode (?:oneof \S+\.(\w+)|\w+ \S+) from JSON: (.*)$/s.exec(text) ?? [];
  return { field: oneof ?? "", description: cut(why, maxDescriptionBytes) };
}

/** What may stand for an enum in JSON. */
function wordsOf(field: DescField, { values }: DescEnum): string[] {
  const rules = hasOption(field, fieldRules) ? getOption(field, fieldRules).type : undefined;
  const ofOne = rules?.case === "repeated" ? rules.value.items?.type : rules;
  const refused = ofOne?.case === "enum" ? ofOne.value.notIn : [];
  return values.filter(({ number }) => !refused.includes(number)).map(({ name }) => name);
}

/** The type of a message that JSON has as an object of its fields. */
function ordinary({ message, fieldKind }: DescField): DescMessage | undefined {
  return fieldKind !== "map" && message && !message.typeName.startsWith("google.protobuf.") ? message : undefined;
}

export function isObject(json: JsonValue): json is JsonObject {
  return typeof json === "object" && json !== null && !Array.isArray(json);
}
