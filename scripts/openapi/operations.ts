import type { DescMethod } from "@bufbuild/protobuf";
import { MethodOptions_IdempotencyLevel } from "@bufbuild/protobuf/wkt";
import type { Reason } from "../../src/domain/refusal.js";
import { errorTable } from "../../src/transport/error-table.js";
import { type Binding, bindingsOf, type FieldPath, lastOf } from "./bindings.js";
import { type Contract, scopeOf } from "./descriptors.js";
import { connectErrorRef, connectExample, statusExample, statusRef } from "./errors.js";
import { bodyOf, type Examples, valueAt } from "./examples.js";
import { byStatus, type Form, meaningOf, refusalsOf } from "./refusals.js";
import { type Json, requiredFields } from "./rules.js";
import { nameOf, oneLine, type Schemas } from "./schemas.js";

/** Where an operation stands in the document. */
export interface Operation {
  readonly path: string;
  readonly verb: string;
  readonly operation: Json;
}

export class Operations {
  /** Bodies that have a schema of their own, by what is left out of which message. */
  private readonly bodies = new Map<string, Json>();

  constructor(
    private readonly contract: Contract,
    private readonly schemas: Schemas,
    private readonly examples: Examples,
  ) {}

  rest(method: DescMethod): Operation[] {
    return bindingsOf(method).map((binding, index) => ({
      path: binding.path,
      verb: binding.verb,
      operation: {
        ...this.head(method, [], index === 0 ? "" : `_${index + 1}`),
        parameters: [
          ...binding.variables.map((variable) => this.parameter(method, variable, "path")),
          ...binding.query.map((field) => this.parameter(method, field, "query")),
          ...headers,
        ],
        ...(binding.body !== "none" && { requestBody: this.body(method, binding) }),
        responses: this.responses(method, "rest"),
      },
    }));
  }

  connect(method: DescMethod): Operation {
    const request = this.examples.get(method.name)?.request;
    const isRead = method.idempotency === MethodOptions_IdempotencyLevel.NO_SIDE_EFFECTS;
    const path = `/${method.parent.typeName}/${method.name}`;
    const get = `Also as GET: \`${path}?connect=v1&encoding=json&message={...}\`.`;
    return {
      path,
      verb: "post",
      operation: {
        ...this.head(method, isRead ? [get] : [], "_Connect", " (Connect)"),
        parameters: headers,
        requestBody: {
          required: true,
          content: json(this.schemas.message(method.input), request && { request: { value: request } }),
        },
        responses: this.responses(method, "connect"),
      },
    };
  }

  private head(method: DescMethod, more: readonly string[], suffix: string, tagSuffix = ""): Json {
    const comment = this.contract.commentOf(method);
    const scope = scopeOf(method);
    const service = method.parent.name;
    return {
      operationId: `${service}_${method.name}${suffix}`,
      tags: [`${service}${tagSuffix}`],
      summary: method.name.replace(/(?<=[a-z])(?=[A-Z])/g, " "),
      description: [comment, ...more, `Scope: \`${scope}\`.`].join("\n\n"),
      security: [{}, { bearer: [scope] }, { certificate: [scope] }],
      "x-scope": scope,
      "x-errors": refusalsOf(this.contract, method),
    };
  }

  private parameter(method: DescMethod, path: FieldPath, place: "path" | "query"): Json {
    const {
      description,
      readOnly: _,
      ...schema
    } = this.schemas.field(lastOf(path), place === "path") as Json & { description?: string };
    const [top] = path.fields;
    const isRequired =
      place === "path" || (path.fields.length === 1 && requiredFields(method.input).fields.has(top as never));
    const request = this.examples.get(method.name)?.request;
    const example = request && valueAt(request, path);
    const oneof = top?.oneof?.fields.map(({ jsonName }) => `\`${jsonName}\``).join(", ");
    const said = [description, place === "query" && oneof && `At most one of ${oneof} may be set.`];
    return {
      ...{ name: path.name, in: place, required: isRequired, description: said.filter(Boolean).join("\n\n"), schema },
      ...(example !== undefined && { example }),
    };
  }

  private body(method: DescMethod, binding: Binding): Json {
    const { variables, body } = binding;
    const message = body === "all" || body === "none" ? method.input : body.message;
    if (!message) throw new Error(`${method.name}: a body that is no message`);
    const depth = body === "all" ? 1 : 2;
    const without = variables
      .filter(({ fields }) => fields.length === depth && (depth === 1 || fields[0] === body))
      .map(lastOf);
    const schema = without.length === 0 ? this.schemas.message(message) : this.partOf(method, message, without);
    const request = this.examples.get(method.name)?.request;
    const example = request && bodyOf(request, binding);
    const needed = requiredFields(message);
    const isRequired =
      body === "all"
        ? [...needed.fields].some((field) => !without.includes(field)) || needed.oneofs.size > 0
        : body !== "none" && requiredFields(method.input).fields.has(body);
    return { required: isRequired, content: json(schema, example && { request: { value: example } }) };
  }

  /** Generators of clients make a type of each, so those that are the same have one name. */
  private partOf(
    method: DescMethod,
    message: NonNullable<DescMethod["input"]>,
    without: Binding["variables"][number]["fields"][number][],
  ): Json {
    const key = `${message.typeName} ${without.map(({ name }) => name).sort()}`;
    let ref = this.bodies.get(key);
    if (!ref) {
      const by = without
        .map(({ name }) => name.replace(/(^|_)([a-z])/g, (_, __, letter: string) => letter.toUpperCase()))
        .join("");
      ref = this.schemas.rest(message, `${method.name}BodyBy${by}`, new Set(without));
      this.bodies.set(key, ref);
    }
    return ref;
  }

  private responses(method: DescMethod, form: Form): Json {
    const answer = this.examples.get(method.name)?.response;
    const ok = {
      description: oneLine(this.contract.commentOf(method.output)) || nameOf(method.output),
      content: json(this.schemas.message(method.output), answer && { answer: { value: answer } }),
    };
    const refused = byStatus(refusalsOf(this.contract, method), form).map(([status, reasons]) => [
      status,
      {
        description: reasons.map((reason) => `- \`${reason}\`: ${meaningOf(this.contract, reason)}`).join("\n"),
        ...headersOf(status, reasons, form),
        content: json(
          form === "rest" ? statusRef : connectErrorRef,
          Object.fromEntries(
            reasons.map((reason) => [reason, { $ref: `#/components/examples/${exampleName(form, reason)}` }]),
          ),
        ),
      },
    ]);
    return { 200: ok, ...Object.fromEntries(refused), 415: { $ref: `#/components/responses/${form}.415` } };
  }
}

export function exampleName(form: Form, reason: Reason): string {
  return `${reason}.${form}`;
}

export function errorExamples(contract: Contract, reasons: Iterable<Reason>): Json {
  const both = [...reasons].flatMap((reason) => {
    const summary = oneLine(meaningOf(contract, reason)).split(". ", 1)[0];
    return [
      [exampleName("rest", reason), { summary, value: statusExample(reason) }],
      [exampleName("connect", reason), { summary, value: connectExample(reason) }],
    ];
  });
  return Object.fromEntries(both);
}

const headers = ["requestId", "timeout"].map((name) => ({ $ref: `#/components/parameters/${name}` }));

function headersOf(status: number, reasons: readonly Reason[], form: Form): Json {
  const mayWait =
    form === "rest" ? reasons.some((reason) => errorTable[reason].retryAfterMs !== undefined) : status === 503;
  const headers = {
    ...(status === 401 && { "WWW-Authenticate": { $ref: "#/components/headers/challenge" } }),
    ...(mayWait && { "Retry-After": { $ref: "#/components/headers/retryAfter" } }),
  };
  return Object.keys(headers).length > 0 ? { headers } : {};
}

function json(schema: Json, examples: Json | undefined | false): Json {
  return { "application/json": { schema, ...(examples && { examples }) } };
}
