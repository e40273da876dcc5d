import { create, type DescField, type DescMessage } from "@bufbuild/protobuf";
import { type FieldViolation, Refusal } from "../../domain/refusal.js";
import { type MaybePromise, readJson } from "../messages/decode.js";
import type { MessageBounds } from "../messages/message-bounds.js";
import { Misread } from "../messages/wrong-fields.js";
import { type Binding, type FieldPath, nameOf } from "./binding.js";
import { decoded, readQuery } from "./query.js";

type Fields = Record<string, unknown>;
type Read = unknown | Refusal;

interface RestCall {
  readonly binding: Binding;
  readonly values: readonly string[];
  readonly query: string;
}

const emptyObject = Buffer.from("{}");

/** The request that a path, a query and a body make together, or what is wrong with them. */
export function readRest(
  { binding, values, query }: RestCall,
  body: Uint8Array,
  bounds: Pick<MessageBounds, "bulk">,
): MaybePromise<Read> {
  const { method, segments, body: takes } = binding;
  const asked = readQuery(binding, query);
  if (asked instanceof Refusal) return asked;
  const violations = [...asked.violations];
  if (takes === undefined && body.length > 0) {
    violations.push({ field: "", description: `${binding.verb} takes no body: parameters are in the query` });
  }
  const variables = segments.filter((segment): segment is FieldPath => typeof segment !== "string");
  const withPath = (read: Read) => join(read, violations, (message) => setAll(message, variables, values));
  const inside = (message: DescMessage, bytes: Uint8Array) => then(readJson(message, bytes, bounds), withPath);

  if (takes === "*") return inside(method.input, body.length === 0 ? emptyObject : body);
  const hasQuery = Object.keys(asked.json).length > 0;
  const frame = hasQuery ? readJson(method.input, Buffer.from(JSON.stringify(asked.json)), {}) : create(method.input);
  if (takes === undefined || body.length === 0) return then(frame, withPath);
  return then(frame, (outer) =>
    then(readJson(takes.message as DescMessage, body, bounds), (inner) => withPath(putInto(outer, takes, inner))),
  );
}

function then(read: MaybePromise<Read>, next: (read: Read) => MaybePromise<Read>): MaybePromise<Read> {
  return read instanceof Promise ? read.then(next) : next(read);
}

/** Puts what was read of a field into the message of which it is one. */
function putInto(outer: Read, field: DescField, inner: Read): Read {
  const wrong = inner instanceof Refusal ? inner.violations.map((one) => within(field, one)) : [];
  const read = inner instanceof Misread ? inner.rest : inner;
  return join(outer, wrong, (message) => {
    if (read === undefined || read instanceof Refusal) return [];
    message[field.localName] = read;
    return [];
  });
}

function within({ name }: DescField, violation: FieldViolation): FieldViolation {
  const into = (path: string) => (path === "" ? name : `${name}.${path}`);
  const { field, about } = violation;
  return { ...violation, field: into(field), ...(about && { about: about.map(into) }) };
}

/** Goes on with what could be read of a message, and says all that is wrong at once. */
function join(read: Read, wrong: readonly FieldViolation[], go: (message: Fields) => readonly FieldViolation[]): Read {
  if (read instanceof Refusal && !(read instanceof Misread)) return read;
  const message = read instanceof Misread ? read.rest : read;
  const more = message === undefined || message instanceof Refusal ? [] : go(message as Fields);
  const violations = [...wrong, ...(read instanceof Misread ? read.violations : []), ...more];
  return violations.length === 0 ? message : new Misread(violations, message);
}

function setAll(message: Fields, variables: readonly FieldPath[], values: readonly string[]): FieldViolation[] {
  return variables.flatMap((path, index) => {
    const value = decoded(values[index] as string);
    const field = nameOf(path);
    const description = value === undefined ? "is not percent-encoded UTF-8" : set(message, path, value);
    return description === undefined ? [] : [{ field, description }];
  });
}

/** The path says what a field is; who says otherwise in the body is told so. */
function set(message: Fields, path: FieldPath, value: string): string | undefined {
  let target = message;
  for (const { localName, message: type } of path.slice(0, -1)) {
    target[localName] ??= create(type as DescMessage);
    target = target[localName] as Fields;
  }
  const { localName, oneof } = path.at(-1) as DescField;
  if (!oneof) {
    if (target[localName] !== "" && target[localName] !== value) return "is another one in the body than in the path";
    target[localName] = value;
    return undefined;
  }
  const before = target[oneof.localName] as { readonly case?: string; readonly value?: unknown };
  if (before.case !== undefined && (before.case !== localName || before.value !== value)) {
    return "is in the path, and the body names another one";
  }
  target[oneof.localName] = { case: localName, value };
  return undefined;
}
