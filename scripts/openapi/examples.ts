import { readFileSync } from "node:fs";
import type { Binding, FieldPath } from "./bindings.js";
import type { Json } from "./rules.js";

/** One call that was made, and what was answered. */
export interface Example {
  readonly request: Json;
  readonly response: Json;
}

/** By the name of the method; those without one have none in the document. */
export type Examples = ReadonlyMap<string, Example>;

export function readExamples(path: string): Examples {
  return new Map(Object.entries(JSON.parse(readFileSync(path, "utf8")) as Record<string, Example>));
}

/** The value that a request has at a path; undefined: none. */
export function valueAt(request: Json, { fields }: FieldPath): unknown {
  return fields.reduce<unknown>((value, { jsonName }) => (value as Json | undefined)?.[jsonName], request);
}

/** The body of a request that is sent by a binding; undefined: its path needs a field that the request does not have. */
export function bodyOf(request: Json, { body, variables }: Binding): Json | undefined {
  if (variables.some((variable) => valueAt(request, variable) === undefined)) return undefined;
  const copy = structuredClone(request);
  for (const { fields } of variables) {
    const names = fields.map(({ jsonName }) => jsonName);
    const inside = names.slice(0, -1).reduce((value, name) => value[name] as Json, copy);
    delete inside[names[names.length - 1] as string];
  }
  if (body === "all") return copy;
  return body === "none" ? undefined : (copy[body.jsonName] as Json);
}
