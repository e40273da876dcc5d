import type { DescField, DescMethodUnary, JsonObject, JsonValue } from "@bufbuild/protobuf";
import { type Binding, bindingsOf, type FieldPath } from "../../src/transport/rest/binding.js";

export interface RestForm {
  readonly verb: string;
  readonly url: string;
  /** undefined: there is none. */
  readonly body: string | undefined;
}

export const isVariable = (segment: Binding["segments"][number]): segment is FieldPath => typeof segment !== "string";

/** A request in JSON as a client of REST writes it. What the path needs and the request has not is `missing`. */
export function restForm(binding: Binding, json: JsonValue, missing = "x"): RestForm {
  const rest = structuredClone(json) as JsonObject;
  const segments = binding.segments.map((segment) =>
    isVariable(segment) ? encodeURIComponent(take(rest, segment) || missing) : segment,
  );
  const path = `/${segments.join("/")}${binding.action && `:${binding.action}`}`;
  const { verb, body } = binding;
  if (body === "*") return { verb, url: path, body: JSON.stringify(rest) };
  let text: string | undefined;
  if (body && rest[body.jsonName] !== undefined) {
    text = JSON.stringify(rest[body.jsonName]);
    delete rest[body.jsonName];
  }
  const query = parameters(rest, "").join("&");
  return { verb, url: query === "" ? path : `${path}?${query}`, body: text };
}

/** By the first of its paths whose variables the request has. */
export function restFormOf(method: DescMethodUnary, json: JsonValue, missing?: string): RestForm {
  const bindings = bindingsOf(method);
  const has = (binding: Binding) =>
    binding.segments.filter(isVariable).every((path) => path.length > 1 || path[0].jsonName in (json as JsonObject));
  return restForm(bindings.find(has) ?? (bindings[0] as Binding), json, missing);
}

function take(json: JsonObject, path: FieldPath): string {
  let inside = json;
  for (const { jsonName } of path.slice(0, -1)) inside = (inside[jsonName] ?? {}) as JsonObject;
  const { jsonName } = path.at(-1) as DescField;
  const value = inside[jsonName];
  delete inside[jsonName];
  return typeof value === "string" ? value : "";
}

function parameters(json: JsonObject, outer: string): string[] {
  return Object.entries(json).flatMap(([name, value]) => {
    const full = `${outer}${name}`;
    if (Array.isArray(value)) return value.map((item) => `${full}=${encodeURIComponent(String(item))}`);
    if (typeof value === "object" && value !== null) return parameters(value, `${full}.`);
    return [`${encodeURIComponent(full)}=${encodeURIComponent(String(value))}`];
  });
}
