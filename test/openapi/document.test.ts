import { readFileSync } from "node:fs";
import { join } from "node:path";
import {
  type DescField,
  type DescMessage,
  type DescMethod,
  fromJson,
  getOption,
  hasOption,
  type JsonValue,
} from "@bufbuild/protobuf";
import { expect, test } from "vitest";
import { AuditService } from "../../gen/coupon/v1/audit_service_pb.js";
import { AuthService } from "../../gen/coupon/v1/auth_service_pb.js";
import { CatalogService } from "../../gen/coupon/v1/catalog_service_pb.js";
import { ErrorReasonSchema } from "../../gen/coupon/v1/error_reason_pb.js";
import { EventService } from "../../gen/coupon/v1/event_service_pb.js";
import { IssuanceService } from "../../gen/coupon/v1/issuance_service_pb.js";
import { scope } from "../../gen/coupon/v1/options_pb.js";
import { UsageService } from "../../gen/coupon/v1/usage_service_pb.js";
import { UserCouponService } from "../../gen/coupon/v1/user_coupon_service_pb.js";
import { http } from "../../gen/google/api/annotations_pb.js";
import { readContract } from "../../scripts/openapi/descriptors.js";
import { openApiOf } from "../../scripts/openapi/document.js";
import { readExamples } from "../../scripts/openapi/examples.js";
import type { Json } from "../../scripts/openapi/rules.js";
import { packageRoot } from "../../src/platform/package-root.js";
import { violationsIn } from "../../src/transport/pipeline.js";
import { messageValidator } from "../../src/transport/validator.js";
import { misfits, resolved } from "./fits.js";

const services = [
  AuditService,
  AuthService,
  CatalogService,
  EventService,
  IssuanceService,
  UsageService,
  UserCouponService,
];
/** Streams are not in the document. */
const methods = services
  .flatMap((service) => service.methods as readonly DescMethod[])
  .filter(({ methodKind }) => methodKind === "unary");
const validator = messageValidator();

interface Operation extends Json {
  operationId: string;
  tags: string[];
  parameters: Json[];
  requestBody?: { content: Record<string, { schema: Json; examples?: Record<string, { value: Json }> }> };
  responses: Record<string, { description: string; content: Record<string, { schema: Json; examples?: Json }> }>;
}

/** As the build has written it. */
const text = readFileSync(join(packageRoot(), "dist/openapi.json"), "utf8");
const document = JSON.parse(text) as Json & { paths: Record<string, Record<string, Operation>> };
const schemas = (document.components as { schemas: Record<string, Json> }).schemas;
const operations = Object.entries(document.paths).flatMap(([path, verbs]) =>
  Object.entries(verbs).map(([verb, operation]) => ({ path, verb, operation })),
);

const connectOf = ({ parent, name }: DescMethod) => document.paths[`/${parent.typeName}/${name}`]?.post as Operation;
const schemaOf = ({ typeName }: { typeName: string }) => schemas[typeName.replace("coupon.v1.", "")] as Json;
const jsonOf = (media: Record<string, unknown>) => media["application/json"] as never;

test("the same contract makes the same text, which is what the build has written", () => {
  const { version } = JSON.parse(readFileSync(join(packageRoot(), "package.json"), "utf8"));
  const made = openApiOf(
    readContract(join(packageRoot(), "dist/coupon.binpb")),
    readExamples(join(packageRoot(), "scripts/openapi/examples.json")),
    version,
  );
  expect(`${JSON.stringify(made)}\n`).toBe(text);
});

test.for(methods.map((method) => [method.name, method] as const))("%s is there in every form", ([, method]) => {
  const connect = connectOf(method);
  expect(connect["x-scope"]).toBe(getOption(method, scope));
  expect(connect.description).not.toBe("");
  const rule = hasOption(method, http) ? getOption(method, http) : undefined;
  expect(rule, "has a path").toBeDefined();
  for (const { pattern } of rule ? [rule, ...rule.additionalBindings] : []) {
    const shape = (path: string) => path.replace(/\{[^}]*\}/g, "{}");
    const found = operations.filter(
      ({ path, verb }) => shape(path) === shape(pattern.value as string) && verb === pattern.case,
    );
    expect(found).toHaveLength(1);
    expect(found[0]?.operation.tags).toEqual([method.parent.name]);
    expect(found[0]?.operation["x-errors"]).toEqual(connect["x-errors"]);
  }
});

/** All messages that requests and answers have in them. */
function reached(all: readonly DescMessage[]): Set<DescMessage> {
  const seen = new Set<DescMessage>();
  const visit = (message: DescMessage) => {
    if (seen.has(message) || message.file.proto.package === "google.protobuf") return;
    seen.add(message);
    for (const field of message.fields) if (field.message) visit(field.message);
  };
  all.forEach(visit);
  return seen;
}

test("every field and every word of an enum is there", () => {
  const messages = [...reached(methods.flatMap(({ input, output }) => [input, output]))];
  expect(messages.length).toBeGreaterThan(methods.length * 2);
  const enums = new Set(messages.flatMap(({ fields }) => fields.flatMap((field: DescField) => field.enum ?? [])));
  for (const message of messages) {
    const names = message.fields.map(({ jsonName }) => jsonName);
    expect(Object.keys((schemaOf(message).properties as Json) ?? {}), message.typeName).toEqual(names);
  }
  for (const one of enums) expect(schemaOf(one).enum, one.typeName).toEqual(one.values.map(({ name }) => name));
});

test("everything that is named is there, once, and is named if it is there, and every variable of a path is said", () => {
  const refs = new Set([...text.matchAll(/"\$ref":"([^"]*)"/g)].map(([, ref]) => ref as string));
  expect(refs.size).toBeGreaterThan(100);
  for (const ref of refs) resolved(document, ref);
  const { securitySchemes: _, ...named } = document.components as Record<string, Json>;
  const there = Object.entries(named).flatMap(([kind, all]) =>
    Object.keys(all).map((name) => `#/components/${kind}/${name}`),
  );
  expect(there.filter((one) => !refs.has(one))).toEqual([]);
  const ids = operations.map(({ operation }) => operation.operationId);
  expect(new Set(ids).size).toBe(ids.length);
  const shapes = Object.keys(document.paths).map((path) => path.replace(/\{[^}]*\}/g, "{}"));
  expect(new Set(shapes).size).toBe(shapes.length);
  const tags = (document.tags as { name: string }[]).map(({ name }) => name);
  for (const { path, operation } of operations) {
    const variables = [...path.matchAll(/\{([^}]*)\}/g)].map(([, name]) => name);
    const said = operation.parameters.filter((one) => one.in === "path");
    expect(said.map(({ name }) => name)).toEqual(variables);
    expect(tags).toEqual(expect.arrayContaining(operation.tags));
  }
});

test("every reason is one that the contract has, each is told by a method, and stands at its status with an example", () => {
  const known = ErrorReasonSchema.values.map(({ name }) => name.replace("ERROR_REASON_", "")).slice(1);
  const told = new Set<string>();
  for (const { path, operation } of operations) {
    const listed = Object.values(operation.responses).flatMap((response) =>
      Object.keys(("content" in response && (jsonOf(response.content) as Json)?.examples) || {}),
    );
    const reasons = operation["x-errors"] as string[];
    expect(listed.filter((name) => name !== "answer").sort(), path).toEqual([...reasons].sort());
    for (const reason of reasons) told.add(reason);
  }
  // Of streams, which the document does not have.
  for (const reason of ["TOO_MANY_WATCHERS", "WATCHER_TOO_SLOW", "WATCH_ENDED"]) told.add(reason);
  expect([...told].sort()).toEqual([...known].sort());
  const examples = (document.components as { examples: Record<string, { value: Json }> }).examples;
  for (const [name, { value }] of Object.entries(examples)) {
    const schema = schemas[name.endsWith(".rest") ? "google.rpc.Status" : "connect.Error"] as Json;
    expect(misfits(document, schema, value), name).toEqual([]);
  }
});

/** The document as somebody reads it who sends: nothing is allowed where it is read only. */
const sent = JSON.parse(text.replaceAll('"readOnly":true', '"not":{}')) as Json;

const violations = (method: DescMethod, request: JsonValue) =>
  violationsIn(validator, method.input, fromJson(method.input, request, { ignoreUnknownFields: false }));

test("every method has an example", () => {
  const examplesOf = (method: DescMethod) => (jsonOf(connectOf(method).requestBody?.content ?? {}) as Json).examples;
  expect(methods.filter((method) => !examplesOf(method)).map(({ name }) => name)).toEqual([]);
});

test.for(methods.map((method) => [method.name, method] as const))(
  "the examples of %s are right, and its schema asks for what the service asks for",
  ([, method]) => {
    const { requestBody, responses } = connectOf(method);
    const asked = jsonOf(requestBody?.content ?? {}) as { schema: Json; examples: { request: { value: Json } } };
    const told = jsonOf(responses[200]?.content ?? {}) as { schema: Json; examples: { answer: { value: Json } } };
    const request = asked.examples.request.value;
    const answer = told.examples.answer.value;
    expect(violations(method, request as JsonValue)).toEqual([]);
    expect(misfits(document, asked.schema, request)).toEqual([]);
    expect(misfits(sent, asked.schema, request), "sends what generated clients leave out").toEqual([]);
    fromJson(method.output, answer as JsonValue, { ignoreUnknownFields: false });
    expect(misfits(document, told.schema, answer)).toEqual([]);
    // Without one of its fields it is right for both or for neither; and so it is with nothing for one of its texts.
    for (const name of Object.keys(request)) {
      const { [name]: value, ...rest } = request;
      const others = typeof value === "string" ? [rest, { ...rest, [name]: "" }, { ...rest, [name]: "\n" }] : [rest];
      for (const other of others.filter((one) => isReadable(method, one as JsonValue))) {
        const byService = violations(method, other as JsonValue).length > 0;
        expect(misfits(document, asked.schema, other).length > 0, JSON.stringify(other)).toBe(byService);
      }
    }
  },
);

/** Whether it is a message at all: a time must be one, whatever the rules say. */
function isReadable(method: DescMethod, request: JsonValue): boolean {
  try {
    fromJson(method.input, request);
    return true;
  } catch {
    return false;
  }
}
