import { type DescField, type JsonObject, type JsonValue, ScalarType } from "@bufbuild/protobuf";
import type { FieldViolation, Refusal } from "../../domain/refusal.js";
import { cut } from "../../platform/cut.js";
import { maxParts, tooManyParts } from "../messages/message-bounds.js";
import { maxWrongFields } from "../messages/wrong-fields.js";
import { type Binding, type FieldPath, fieldsAt, nameOf } from "./binding.js";

const maxNameBytes = 300;

export interface Query {
  /** What the parameters say, as the request's JSON has it. */
  readonly json: JsonObject;
  /** What of them cannot be understood. */
  readonly violations: readonly FieldViolation[];
}

/** undefined: the text is not percent-encoded UTF-8. */
export function decoded(text: string): string | undefined {
  try {
    return decodeURIComponent(text);
  } catch {
    return undefined;
  }
}

/** Reads "page_size=20&statuses=READY&statuses=LOCKED", by the fields that the binding leaves to the query. */
export function readQuery(binding: Binding, query: string): Query | Refusal {
  const json: JsonObject = {};
  const violations: FieldViolation[] = [];
  const pairs = query.split("&", maxParts + 1);
  if (pairs.length > maxParts) return tooManyParts("");
  for (const pair of pairs) {
    if (pair === "") continue;
    if (violations.length >= maxWrongFields) break;
    const equalsAt = pair.indexOf("=");
    const [rawName, rawValue] = equalsAt < 0 ? [pair, ""] : [pair.slice(0, equalsAt), pair.slice(equalsAt + 1)];
    const name = decoded(rawName.replaceAll("+", " ")) ?? rawName;
    const path = fieldsAt(binding.method.input, name);
    const field = path ? nameOf(path) : cut(name, maxNameBytes);
    const description = path ? put(binding, path, rawValue, json) : `is no parameter of ${binding.method.name}`;
    if (description !== undefined) violations.push({ field, description });
  }
  return { json, violations };
}

/** Says what is wrong with it. */
function put(binding: Binding, path: FieldPath, rawValue: string, json: JsonObject): string | undefined {
  const { body, segments } = binding;
  if (segments.some((segment) => typeof segment !== "string" && nameOf(segment) === nameOf(path))) {
    return "is set by the path";
  }
  if (body !== undefined && (body === "*" || path[0] === body)) return "belongs into the body";
  const text = decoded(rawValue.replaceAll("+", " "));
  if (text === undefined) return "is not percent-encoded UTF-8";
  const field = path.at(-1) as DescField;
  const value = jsonValueOf(field, text);
  if (value === undefined)
    return field.scalar === ScalarType.BOOL ? "must be true or false" : "cannot be set in a query";
  let target = json;
  for (const outer of path.slice(0, -1)) {
    target[outer.jsonName] ??= {};
    target = target[outer.jsonName] as JsonObject;
  }
  const before = target[field.jsonName];
  if (field.fieldKind === "list") {
    if (before === undefined) target[field.jsonName] = [value];
    else (before as JsonValue[]).push(value);
  } else if (before !== undefined) return "is set more than once";
  else target[field.jsonName] = value;
  return undefined;
}

/** Messages that JSON has as a text. */
const texts = ["google.protobuf.Timestamp", "google.protobuf.Duration", "google.protobuf.FieldMask"];

/** What JSON has for such a text; undefined: nothing. */
function jsonValueOf(field: DescField, text: string): JsonValue | undefined {
  if (field.fieldKind === "map") return undefined;
  if (field.message) return texts.includes(field.message.typeName) ? text : undefined;
  if (field.enum) return /^-?\d{1,10}$/.test(text) ? Number(text) : text;
  if (field.scalar === ScalarType.BOOL) return text === "true" ? true : text === "false" ? false : undefined;
  return text;
}
