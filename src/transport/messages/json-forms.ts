import { type DescField, type DescMessage, type JsonObject, type JsonValue, ScalarType } from "@bufbuild/protobuf";
import { cut } from "../../platform/cut.js";
import { hasUnkeptKey, unkeptKey } from "./message-bounds.js";

/**
 * How times, durations, numbers and masks must be written in JSON. protobuf-es takes some of them for something else than was
 * written (the 30th of February for the 2nd of March, "0x10" for 16, "1s ago" for a second), so they are looked at before.
 * Only fields that may have such a thing are visited, so a large message has next to nothing of this to pay for.
 */

/** Why a value is not written as it must be. */
export class Malformed {
  constructor(readonly description: string) {}
}

/** Gives the value as protobuf-es is to read it, or says what is wrong with it. What is of the wrong type is left to protobuf-es. */
type Form = (value: JsonValue) => JsonValue | Malformed;

interface FormField {
  /** In JSON, and in the proto file. */
  readonly names: readonly string[];
  readonly isList: boolean;
  readonly form: Form | undefined;
  /** Of a message that may have such a field. */
  readonly inner: readonly FormField[] | undefined;
}

/** Whether all that must have a form has it. Writes anew what protobuf-es would refuse and is right. */
export function hasForms(schema: DescMessage, json: JsonValue): boolean {
  return visit(formFieldsOf(schema), json);
}

/** What the form of one value of a field has against it; undefined: nothing, or it has none. */
export function malformed(field: DescField, value: JsonValue): Malformed | undefined {
  const read = formOf(field)?.(value);
  return read instanceof Malformed ? read : undefined;
}

/** How a time, a duration or a mask is written, for whoever has written something else than a text. */
export function writtenForm(field: DescField): string | undefined {
  switch (field.message?.typeName) {
    case "google.protobuf.Timestamp":
      return wrongTime.description;
    case "google.protobuf.Duration":
      return wrongDuration.description;
    case "google.protobuf.FieldMask":
      return 'must be a text of paths with commas between: "name,startTime"';
    default:
      return undefined;
  }
}

function visit(fields: readonly FormField[], json: JsonValue): boolean {
  if (typeof json !== "object" || json === null || Array.isArray(json)) return true;
  for (const field of fields) {
    for (const name of field.names) {
      const value = json[name];
      if (value === undefined || value === null) continue;
      if (!(field.isList ? visitList(field, value) : visitValue(field, json, name, value))) return false;
    }
  }
  return true;
}

/** `name`: the number of an item, in a list. */
function visitValue(
  { form, inner }: FormField,
  json: JsonObject | JsonValue[],
  name: string | number,
  value: JsonValue,
): boolean {
  if (inner) return visit(inner, value);
  const read = form?.(value) ?? value;
  if (read instanceof Malformed) return false;
  if (read !== value) (json as JsonObject)[name] = read;
  return true;
}

function visitList(field: FormField, list: JsonValue): boolean {
  return !Array.isArray(list) || list.every((item, index) => visitValue(field, list, index, item));
}

const plans = new WeakMap<DescMessage, readonly FormField[]>();

function formFieldsOf(schema: DescMessage): readonly FormField[] {
  const known = plans.get(schema);
  if (known) return known;
  const fields: FormField[] = [];
  // A type may contain itself.
  plans.set(schema, fields);
  for (const field of schema.fields) {
    const form = formOf(field);
    const inner = !form && field.message ? formFieldsOf(field.message) : undefined;
    if (!form && !inner?.length) continue;
    fields.push({ names: [...new Set([field.jsonName, field.name])], isList: field.fieldKind === "list", form, inner });
  }
  return fields;
}

function formOf(field: DescField): Form | undefined {
  if (field.fieldKind === "map") return mapForm;
  switch (field.message?.typeName) {
    case "google.protobuf.Timestamp":
      return timeForm;
    case "google.protobuf.Duration":
      return durationForm;
    case "google.protobuf.FieldMask":
      return maskForm;
  }
  switch (field.scalar) {
    case ScalarType.INT64:
    case ScalarType.UINT64:
    case ScalarType.SINT64:
    case ScalarType.FIXED64:
    case ScalarType.SFIXED64:
      return longForm;
    case ScalarType.INT32:
    case ScalarType.UINT32:
    case ScalarType.SINT32:
    case ScalarType.FIXED32:
    case ScalarType.SFIXED32:
      return integerForm;
    default:
      return undefined;
  }
}

const time = /^(\d{4})-(\d\d)-(\d\d)T(\d\d):(\d\d):(\d\d)(?:\.\d{1,9})?(?:Z|[+-](\d\d):(\d\d))$/;
const wrongTime = new Malformed('must be a time with a zone, and at most nine decimals: "2027-02-28T23:59:59.5Z"');
const noSuchDay = new Malformed("is a day that does not exist");
const noSuchTime = new Malformed("is a time of day that does not exist: from 00:00:00 to 23:59:59");
const noSuchZone = new Malformed("has a zone that does not exist: Z, or from -23:59 to +23:59");

type EightNumbers = [number, number, number, number, number, number, number, number];

/** Thousands of lines mostly end at the same time. */
let lastTime = "";

const timeForm: Form = (value) => {
  if (typeof value !== "string" || value === lastTime) return value;
  const parts = time.exec(value);
  if (!parts) return wrongTime;
  const [year, month, day, hour, minute, second, zoneHour, zoneMinute] = parts
    .slice(1)
    .map((part) => Number(part ?? 0)) as EightNumbers;
  if (month < 1 || month > 12 || day < 1 || day > daysOf(year, month)) return noSuchDay;
  if (hour > 23 || minute > 59 || second > 59) return noSuchTime;
  if (zoneHour > 23 || zoneMinute > 59) return noSuchZone;
  lastTime = value;
  return value;
};

function daysOf(year: number, month: number): number {
  if (month === 2) return year % 4 === 0 && (year % 100 !== 0 || year % 400 === 0) ? 29 : 28;
  return month === 4 || month === 6 || month === 9 || month === 11 ? 30 : 31;
}

const duration = /^-?\d{1,12}(?:\.\d{1,9})?s$/;
const wrongDuration = new Malformed('must be seconds with at most nine decimals, and an s: "1.5s"');

const durationForm: Form = (value) => (typeof value === "string" && !duration.test(value) ? wrongDuration : value);

const digits = /^-?\d{1,40}$/;
const decimal = /^(-?)(\d{1,40})(?:\.(\d{1,40}))?(?:[eE]([+-]?\d{1,2}))?$/;
const wrongInteger = new Malformed('must be a whole number in decimal digits: "1000"');
const inexact = new Malformed("is a number too large to be exact in JSON: write it as a text of decimal digits");

/** The mapping has exponents in texts, too, and a fraction of nothing: "1e3" and "1.0" are whole numbers. */
const integerForm: Form = (value) => {
  if (typeof value !== "string" || digits.test(value)) return value;
  const parts = decimal.exec(value);
  if (!parts) return wrongInteger;
  const [, sign, whole = "", fraction = "", exponent = "0"] = parts;
  const all = whole + fraction;
  const length = whole.length + Number(exponent);
  const kept = Math.max(0, length);
  if (!/^0*$/.test(all.slice(kept))) return wrongInteger;
  return `${sign}${all.slice(0, kept).padEnd(kept, "0") || "0"}`;
};

/** Past 2^53 JSON.parse has rounded it already. */
const longForm: Form = (value) =>
  typeof value === "number" && Number.isInteger(value) && !Number.isSafeInteger(value) ? inexact : integerForm(value);

const unkept = new Malformed(hasUnkeptKey);

const mapForm: Form = (value) =>
  typeof value === "object" && value !== null && Object.hasOwn(value, unkeptKey) ? unkept : value;

const maxPathBytes = 100;

/** The mapping has paths in lowerCamelCase only; the proto file, which people read, has them with underscores. */
const maskForm: Form = (value) => {
  if (typeof value !== "string" || !value.includes("_")) return value;
  const paths = value.split(",");
  for (const [index, path] of paths.entries()) {
    if (!path.includes("_")) continue;
    const camel = path.replace(/_([a-z])/g, (_, letter: string) => letter.toUpperCase());
    if (camel.includes("_")) {
      return new Malformed(`"${cut(path, maxPathBytes)}" is no path: they are written as start_time or as startTime`);
    }
    paths[index] = camel;
  }
  return paths.join(",");
};
