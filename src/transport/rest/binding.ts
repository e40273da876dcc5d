import { type DescField, type DescMessage, type DescMethodUnary, getOption, hasOption } from "@bufbuild/protobuf";
import { http } from "../../../gen/google/api/annotations_pb.js";
import type { HttpRule } from "../../../gen/google/api/http_pb.js";

/** A field of the request, or of a message in it: each is in the one before. */
export type FieldPath = readonly [DescField, ...DescField[]];

/** One segment of a path: a literal, or a variable and the field that it sets. */
export type Segment = string | FieldPath;

/** One way to call a method with a path, as its `google.api.http` says. */
export interface Binding {
  readonly method: DescMethodUnary;
  /** GET, POST, ... */
  readonly verb: string;
  readonly segments: readonly Segment[];
  /** What follows the last colon: "pause"; "" where there is none. */
  readonly action: string;
  /** What the body is: the request but for what the path sets, a field of it, or nothing. The query sets what is left. */
  readonly body: "*" | DescField | undefined;
}

/** Throws where an annotation says what is not served here. */
export function bindingsOf(method: DescMethodUnary): Binding[] {
  if (!hasOption(method, http)) return [];
  const rule = getOption(method, http);
  return [rule, ...rule.additionalBindings].map((one) => bindingOf(method, one));
}

function bindingOf(method: DescMethodUnary, { pattern, body, responseBody }: HttpRule): Binding {
  const wrong = (what: string) => new Error(`google.api.http of ${method.name}: ${what}`);
  if (pattern.case === undefined || pattern.case === "custom") throw wrong("has no method and path");
  if (responseBody !== "") throw wrong("response_body is not served");
  const parts = /^\/(.*?)(?::([A-Za-z]+))?$/.exec(pattern.value);
  if (!parts) throw wrong(`${pattern.value} is no path`);
  const segments = (parts[1] as string).split("/").map((segment): Segment => {
    const variable = /^\{([a-z0-9_.]+)\}$/.exec(segment)?.[1];
    if (variable === undefined) {
      if (!/^[A-Za-z0-9]+$/.test(segment)) throw wrong(`${segment} is neither a word nor a variable of one segment`);
      return segment;
    }
    const path = fieldsAt(method.input, variable);
    if (path?.at(-1)?.fieldKind !== "scalar") throw wrong(`${variable} is no singular field`);
    return path;
  });
  const bodyField = method.input.fields.find(({ name }) => name === body);
  if (body !== "" && body !== "*" && bodyField?.fieldKind !== "message") throw wrong(`${body} is no message`);
  const isBodyless = pattern.case === "get" || pattern.case === "delete";
  if (isBodyless && body !== "") throw wrong(`${pattern.case} has no body`);
  return {
    ...{ method, segments },
    verb: pattern.case.toUpperCase(),
    action: parts[2] ?? "",
    body: body === "*" ? "*" : bodyField,
  };
}

/** "coupon.id" as in the proto file, or as in JSON; undefined: there is no such field, or it is in what is no plain message. */
export function fieldsAt(schema: DescMessage, name: string): FieldPath | undefined {
  const path: DescField[] = [];
  let inside: DescMessage | undefined = schema;
  for (const piece of name.split(".")) {
    const field: DescField | undefined = inside && namesOf(inside).get(piece);
    if (!field) return undefined;
    path.push(field);
    const isPlain: boolean = field.fieldKind === "message" && !field.message.typeName.startsWith("google.protobuf.");
    inside = isPlain ? field.message : undefined;
  }
  return path as [DescField, ...DescField[]];
}

/** As the proto file has it: "coupon.id". */
export function nameOf(path: FieldPath): string {
  return path.map(({ name }) => name).join(".");
}

const names = new WeakMap<DescMessage, ReadonlyMap<string, DescField>>();

function namesOf(schema: DescMessage): ReadonlyMap<string, DescField> {
  let known = names.get(schema);
  if (!known) {
    known = new Map(schema.fields.flatMap((field) => [field.name, field.jsonName].map((name) => [name, field])));
    names.set(schema, known);
  }
  return known;
}
