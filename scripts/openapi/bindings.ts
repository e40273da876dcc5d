import { type DescField, type DescMessage, type DescMethod, getOption, hasOption } from "@bufbuild/protobuf";
import { http } from "../../gen/google/api/annotations_pb.js";
import type { HttpRule } from "../../gen/google/api/http_pb.js";

/** One way to reach a method over HTTP, as its `google.api.http` says it. */
export interface Binding {
  readonly verb: string;
  /** With the variables in the spelling of JSON: `/v1/coupons/{couponId}`. */
  readonly path: string;
  readonly variables: readonly FieldPath[];
  /** The field that the body is, or all that neither the path nor the query has. */
  readonly body: DescField | "all" | "none";
  readonly query: readonly FieldPath[];
}

/** A field, and those that it lies in. */
export interface FieldPath {
  readonly name: string;
  readonly fields: readonly DescField[];
}

export function bindingsOf(method: DescMethod): Binding[] {
  if (!hasOption(method, http)) return [];
  const rule = getOption(method, http);
  return [rule, ...rule.additionalBindings].map((one) => bindingOf(method, one));
}

/** The innermost field of a path. */
export function lastOf({ fields }: FieldPath): DescField {
  return fields[fields.length - 1] as DescField;
}

function bindingOf({ input, name }: DescMethod, { pattern, body }: HttpRule): Binding {
  if (pattern.case === undefined || pattern.case === "custom")
    throw new Error(`${name}: a binding without a method of HTTP`);
  const variables: FieldPath[] = [];
  const path = pattern.value.replace(/\{([^}]*)\}/g, (_, text: string) => {
    if (!/^[a-z0-9_.]+$/.test(text))
      throw new Error(`${name}: the variable {${text}} has a pattern, which OpenAPI cannot say`);
    const variable = pathTo(input, text.split("."));
    // Two paths that differ in the names of their variables alone are one path: {coupon.id} is the {couponId} of others.
    const named = {
      ...variable,
      name: variable.name.replace(/\.([a-z])/g, (_dot, letter: string) => letter.toUpperCase()),
    };
    variables.push(named);
    return `{${named.name}}`;
  });
  const bodyField = body === "" || body === "*" ? undefined : fieldOf(input, body);
  const inPath = new Set(variables.map((variable) => lastOf(variable)));
  const decided = new Set(variables.flatMap(({ fields }) => fields[0]?.oneof ?? []));
  const inQuery = input.fields.filter((field) => field !== bodyField && !(field.oneof && decided.has(field.oneof)));
  return {
    verb: pattern.case,
    path,
    variables,
    body: bodyField ?? (body === "*" ? "all" : "none"),
    query:
      body === "*" ? [] : inQuery.flatMap((field) => leavesOf([field])).filter((each) => !inPath.has(lastOf(each))),
  };
}

function pathTo(message: DescMessage, names: readonly string[]): FieldPath {
  const fields: DescField[] = [];
  let inside: DescMessage | undefined = message;
  for (const name of names) {
    if (!inside) throw new Error(`${message.typeName}: ${names.join(".")} leads into no message`);
    const field = fieldOf(inside, name);
    fields.push(field);
    inside = field.message;
  }
  return { name: nameOf(fields), fields };
}

function fieldOf(message: DescMessage, name: string): DescField {
  const field = message.fields.find((one) => one.name === name);
  if (!field) throw new Error(`${message.typeName} has no field ${name}`);
  return field;
}

/** What a query can have: all but messages, of which it has the fields, and lists of them and maps, which it cannot have at all. */
function leavesOf(fields: readonly DescField[]): FieldPath[] {
  const last = fields[fields.length - 1] as DescField;
  if (last.fieldKind === "map" || (last.fieldKind === "list" && last.listKind === "message")) return [];
  if (last.fieldKind !== "message" || last.message.file.proto.package === "google.protobuf")
    return [{ name: nameOf(fields), fields }];
  return last.message.fields
    .filter((field) => !fields.includes(field))
    .flatMap((field) => leavesOf([...fields, field]));
}

function nameOf(fields: readonly DescField[]): string {
  return fields.map(({ jsonName }) => jsonName).join(".");
}
