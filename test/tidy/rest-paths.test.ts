import { readdir } from "node:fs/promises";
import { join } from "node:path";
import { type DescMethodUnary, type DescService, getOption } from "@bufbuild/protobuf";
import { expect, test } from "vitest";
import { http } from "../../gen/google/api/annotations_pb.js";
import { packageRoot } from "../../src/platform/package-root.js";
import { type Binding, bindingsOf } from "../../src/transport/rest/binding.js";

const generated = join(packageRoot(), "gen/coupon/v1");
const files = (await readdir(generated)).filter((name) => name.endsWith("_pb.ts"));
const modules = await Promise.all(files.map((name) => import(join(generated, name)) as Promise<object>));
const services = modules
  .flatMap((module) => Object.values(module))
  .filter((one): one is DescService => one?.kind === "service");
const unary = services
  .flatMap((service) => service.methods)
  .filter((method): method is DescMethodUnary => method.methodKind === "unary");

/** They only read, and what they are asked has lists of messages, or maps, in it. */
const readsByBody = new Set(["QuoteUsage", "ListEvents"]);

/** What the rules of `google/api/http.proto` and of gateways have against the paths of a method. */
function wrongIn(method: DescMethodUnary): string[] {
  const bindings = bindingsOf(method);
  if (bindings.length === 0) return ["has no google.api.http"];
  const reads = method.idempotency === 1;
  return bindings.flatMap((binding) => [
    ...(binding.segments[0] === "v1" ? [] : ["does not begin with /v1"]),
    ...(reads && binding.verb !== "GET" && !readsByBody.has(method.name) ? ["only reads, and is no GET"] : []),
    ...(!reads && binding.verb === "GET" ? ["changes something, and is a GET"] : []),
    ...namedTwice(binding),
    ...(binding.body === "*" || binding.verb === "POST" || binding.verb === "PATCH"
      ? []
      : notForAQuery(method, binding)),
  ]);
}

function namedTwice({ segments }: Binding): string[] {
  const names = segments.flatMap((one) => (typeof one === "string" ? [] : one.map(({ name }) => name).join(".")));
  return new Set(names).size === names.length ? [] : ["has a variable twice"];
}

/** Gateways take no maps and no lists of messages from a query. */
function notForAQuery({ input }: DescMethodUnary, { body }: Binding): string[] {
  return input.fields
    .filter((field) => field !== body && (field.fieldKind === "map" || (field.fieldKind === "list" && field.message)))
    .map(({ name }) => `has ${name} in its query`);
}

test("every unary method has paths that a gateway can serve", () => {
  expect(unary.length).toBeGreaterThan(25);
  expect(unary.map((method) => [method.name, wrongIn(method)])).toEqual(unary.map(({ name }) => [name, []]));
});

test("no two methods have the same path, whatever its variables are called", () => {
  const paths = unary.flatMap((method) =>
    bindingsOf(method).map(({ verb, segments, action }) =>
      [verb, ...segments.map((one) => (typeof one === "string" ? one : "*")), action].join(" "),
    ),
  );
  expect(paths.filter((path, index) => paths.indexOf(path) !== index)).toEqual([]);
});

test("additional bindings have none of their own, as the rules want it", () => {
  for (const method of unary)
    for (const { additionalBindings } of getOption(method, http).additionalBindings)
      expect(additionalBindings).toEqual([]);
});
